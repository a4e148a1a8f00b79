"""What workers are given and what they answer: plain frozen data that crosses a pipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from bench.spec.plan import CellJob, SynthJob
from bench.store.records import ResultRecord


@dataclass(frozen=True)
class Settings:
    """How a run works; none of it is identity. ``store`` is the store's folder, ``data_root`` the data set's."""

    store: str
    device: str = "cpu"
    threads: int = 1
    data_root: str | None = None
    unrelated: str | None = "digits"


@dataclass(frozen=True)
class Task:
    """One batch of an image set, or one cell."""

    kind: Literal["batch", "cell"]
    synth: SynthJob
    batch: int = -1
    cell: CellJob | None = None
    suite: str = ""
    suite_version: int = 0

    @property
    def key(self) -> str:
        return self.cell.cell_id if self.cell is not None else f"{self.synth.synth_id}/{self.batch}"

    @property
    def title(self) -> str:
        """What the progress shows."""
        origin = f"{self.synth.source.label}[{self.synth.model}]" if self.synth.model else self.synth.source.label
        if self.cell is None:
            return f"{origin} seed {self.synth.seed} batch {self.batch + 1}/{self.synth.batches}"
        cell = self.cell
        return f"{origin} → {cell.target} {cell.compressor} {cell.bits} seed {cell.seed}"


@dataclass(frozen=True)
class Started:
    task: Task
    worker: int


@dataclass(frozen=True)
class Progress:
    """``stage`` is the method's word for what it does; ``step`` of ``total``."""

    task: Task
    stage: str
    step: int
    total: int


@dataclass(frozen=True)
class Done:
    """``record`` for a cell; None for a batch."""

    task: Task
    seconds: float
    record: ResultRecord | None = None


@dataclass(frozen=True)
class Failed:
    """A batch that could not be made, or a worker that died; ``applicable`` is False when the method said why not."""

    task: Task
    reason: str
    traceback: str | None = None
    applicable: bool = True
    info: dict[str, Any] = field(default_factory=dict)


Event = Started | Progress | Done | Failed
