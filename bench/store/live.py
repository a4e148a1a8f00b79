"""``live.json``: what the store's latest run says of itself while it works; advice for whoever watches, never a result.

Nothing in it decides anything: the records are the truth, and deleting the file loses nothing.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import StoreError
from bench.store.files import check_layout, first_fault, read_stored, write_atomic

LIVE_SCHEMA = 1
BEAT = 2.0
"""Seconds between two writes when nothing happens."""

MISSED = 5 * BEAT
"""A run not heard from for so long is dead when its process is gone."""

SILENT = 60.0
"""… and stopped or hung when its process is still there."""

_FILE = "live.json"

Phase = Literal["running", "finished", "interrupted", "silent", "died"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LiveTask(_Part):
    """A task at work in ``worker`` (from 1): ``stage`` in the method's words, ``step`` of ``total`` (0: not told yet),
    ``began`` in seconds since 1970."""

    worker: int
    title: str
    kind: str
    stage: str = ""
    step: int = 0
    total: int = 0
    began: float


class LiveRecord(_Part):
    """A cell that ended: ``top1`` in percent when it was measured, else the reason why not."""

    cell_id: str
    title: str
    status: str
    top1: float | None = None
    reason: str | None = None
    ended: float


class LiveState(_Part):
    """A run as it stands; times in seconds since 1970, durations in seconds.

    ``tasks`` are batches of images and cells to do when it began, ``standing`` cells that stood already; ``curve``
    holds (seconds since the start, tasks done), thinned.
    """

    schema_version: int = LIVE_SCHEMA
    pid: int
    suite: str
    suite_version: int
    preset: str
    workers: int
    started: float
    beat: float
    tasks: int
    done: int = 0
    standing: int = 0
    seconds_left: float | None = None
    running: tuple[LiveTask, ...] = ()
    records: tuple[LiveRecord, ...] = ()
    failures: tuple[LiveRecord, ...] = ()
    failed: int = 0
    curve: tuple[tuple[float, int], ...] = Field(default=())
    ended: Literal["finished", "interrupted"] | None = None

    def phase(self, now: float | None = None) -> Phase:
        """Whether the run still works, as far as can be told: it ended, was heard from lately, or its process is gone.

        A run on another machine has no process here; then only its silence speaks.
        """
        if self.ended is not None:
            return self.ended
        silence = (time.time() if now is None else now) - self.beat
        if silence <= MISSED:
            return "running"
        if not psutil.pid_exists(self.pid):
            return "died"
        return "running" if silence <= SILENT else "silent"


def live_path(store: Path) -> Path:
    """Where a store's latest run tells of itself."""
    return store / _FILE


def write_live(store: Path, state: LiveState) -> None:
    """Replace the store's state by this one, atomically.

    Raises:
        StoreError: the folder cannot be written.
    """
    write_atomic(live_path(store), state.model_dump_json().encode())


def read_live(store: Path) -> LiveState | None:
    """What the store's latest run says; None when it has had none.

    Raises:
        StoreError: the file cannot be read, is damaged, or a newer version wrote it or the store.
    """
    path = live_path(store)
    if not check_layout(store):
        return None
    raw = read_stored(path, partial(_damaged, path))
    if raw is None:
        return None
    schema = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(schema, int) and schema > LIVE_SCHEMA:
        raise StoreError(
            "a newer version of datafree-bench wrote this run's state",
            where=str(path),
            got=f"schema_version {schema}",
            expected=f"up to {LIVE_SCHEMA}",
            hint="Update datafree-bench to watch it.",
        )
    try:
        return LiveState.model_validate(raw)
    except ValidationError as error:
        raise _damaged(path, first_fault(error)) from error


def _damaged(path: Path, why: object) -> StoreError:
    hint = "The records are not touched by this; a run that still works writes the file anew within seconds."
    return StoreError("the run's state is damaged or half-written", where=str(path), got=why, hint=hint)
