"""A machine's speed as it was measured: seconds per multiply-accumulate of each kind of step.  No torch.

``bench calibrate-cost`` measures it and keeps it in the cache folder, a file a device; the same file, copied from
another machine, is what ``bench plan --cost FILE`` plans with.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.cost.effort import Step
from bench.errors import BenchError
from bench.machine import cpu_facts
from bench.paths import cache_folder, kept_in
from bench.reading import read_json

FORM: Literal["datafree-bench cost 1"] = "datafree-bench cost 1"
FOLDER = "costs"
"""Below the cache folder."""

REFERENCE = "reference.json"
"""The same of a machine like the one that measured the records which came with the package.  It was measured while that
machine was busy with other work; batches and compressions of those records, run again before and after, took 1.52 times
the CPU seconds they are recorded with, and all of the reference is divided by that."""

DEVICES = ("cpu", "cuda")

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Timed(BaseModel):
    """One kind of step on one network.

    ``macs`` are the network's multiply-accumulates for one image, ``passes`` the forward-equivalents of one step,
    ``seconds`` and ``cpu_seconds`` what one of them took.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: Step
    network: str
    macs: _Positive
    batch: Annotated[int, Field(ge=1)]
    passes: _Positive
    seconds: _Positive
    cpu_seconds: _Positive


class Calibration(BaseModel):
    """What was measured on one device of one machine; ``facts`` tell of its processor, and of its GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["datafree-bench cost 1"] = FORM
    device: Literal["cpu", "cuda"]
    machine: str
    facts: dict[str, str]
    threads: Annotated[int, Field(ge=1)]
    cores: Annotated[int, Field(ge=1)]
    date: str
    timed: Annotated[tuple[Timed, ...], Field(min_length=1)]

    @property
    def name(self) -> str:
        """The machine in words."""
        return f"{self.machine} ({self.facts.get('gpu') or self.facts.get('cpu', 'unknown processor')})"

    def per_mac(self, step: Step, macs: float) -> float | None:
        """Seconds per forward-equivalent and multiply-accumulate of a network of ``macs``: those measured, between two
        networks by their logarithms, beyond the smallest and largest theirs.  None where this step was not measured.

        CPU seconds on a CPU, wall seconds on CUDA.
        """
        known = sorted((one.macs, _seconds(one, self.device) / one.macs) for one in self.timed if one.step == step)
        if not known:
            return None
        below = [pair for pair in known if pair[0] <= macs]
        above = [pair for pair in known if pair[0] >= macs]
        if not below or not above:
            return (below or above)[-1 if below else 0][1]
        (low, slow), (high, fast) = below[-1], above[0]
        if low == high:
            return slow
        share = math.log(macs / low) / math.log(high / low)
        return math.exp((1 - share) * math.log(slow) + share * math.log(fast))

    def is_here(self) -> bool:
        """Whether it is of this machine: its name, and its processor by name and model."""
        here = cpu_facts()
        same = all(self.facts.get(name) == here.get(name) for name in ("cpu", "cpu_model"))
        return same and self.machine == platform.node()


def _seconds(one: Timed, device: str) -> float:
    return one.cpu_seconds if device == "cpu" else one.seconds


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file.

    Raises:
        BenchError: it cannot be read, or is none.
    """
    hint = "Make it on that machine: bench calibrate-cost --out FILE."
    try:
        return Calibration.model_validate(_tuples(read_json(path)))
    except OSError as error:
        raise BenchError("cannot be read", where=str(path), got=error.strerror, hint=hint) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        got = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
        raise BenchError("is no calibration of costs", where=str(path), got=got, hint=hint) from error
    except ValueError as error:
        raise BenchError("is no calibration of costs", where=str(path), got=error, hint=hint) from error


def kept_path(device: str) -> Path:
    """Where this machine's calibration of a device lies.

    Raises:
        StoreError: no place for it is known.
    """
    return cache_folder() / FOLDER / f"{device}.json"


def kept_here() -> tuple[Calibration, ...]:
    """This machine's calibrations; one of another machine that shares the cache folder is none.

    Raises:
        BenchError: one is damaged.
    """
    paths = [path for device in DEVICES if (path := kept_path(device)).is_file()]
    return tuple(found for path in paths if (found := read_calibration(path)).is_here())


def keep(found: Calibration, path: Path | None = None) -> Path:
    """Write a calibration to ``path``, else where :func:`kept_here` finds it, with what the file holds of the same
    machine's other networks; returns the place.

    Raises:
        StoreError: it cannot be written.
    """
    from bench.store.files import write_atomic

    place = path or kept_path(found.device)
    new = {(one.step, one.network) for one in found.timed}
    old = tuple(one for one in _earlier(place, found) if (one.step, one.network) not in new)
    content = found.model_copy(update={"timed": (*old, *found.timed)}).model_dump_json(indent=1)
    with kept_in(place.parent):
        write_atomic(place, f"{content}\n".encode())
    return place


def _earlier(path: Path, found: Calibration) -> Sequence[Timed]:
    """What a file tells of the same machine; nothing where it is of another, damaged, or not there."""
    try:
        old = read_calibration(path)
    except BenchError:
        return ()
    same = ("device", "machine", "facts", "threads")
    return old.timed if all(getattr(old, name) == getattr(found, name) for name in same) else ()


@lru_cache(maxsize=1)
def reference() -> Calibration:
    """See :data:`REFERENCE`."""
    return Calibration.model_validate(_tuples(read_json(resources.files("bench.cost") / REFERENCE)))


def _tuples(raw: Any) -> Any:
    """JSON's list as the tuple that the field is."""
    return {**raw, "timed": tuple(raw.get("timed", ()))} if isinstance(raw, dict) else raw
