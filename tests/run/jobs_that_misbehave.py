"""Jobs for the tests of workers: each does one thing that a method's code may do to its process.

A worker learns of them as it unpickles one, since that imports this module.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.run.perform import perform
from bench.run.worker import Bench, Report
from bench.spec.jobs import CellJob
from bench.store.records import ResultRecord


@dataclass(frozen=True)
class Misbehaving:
    """Does ``what``; ``note`` is a file it writes a process number to."""

    what: str
    note: Path | None = None

    kind: ClassVar[str] = "test"
    needs: ClassVar[frozenset[str]] = frozenset()
    cells: ClassVar[tuple[CellJob, ...]] = ()

    @property
    def key(self) -> str:
        return self.what

    @property
    def title(self) -> str:
        return f"job that does {self.what}"

    @property
    def like(self) -> tuple[str, ...]:
        return (self.kind,)


@dataclass(frozen=True)
class Deadly(Misbehaving):
    """Kills the process that unpickles it, before it can begin."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os._exit, (7,))


@perform.register
def _(job: Misbehaving, bench: Bench, report: Report) -> tuple[ResultRecord, ...]:
    if job.what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif job.what == "sleep":
        if job.note is not None:
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            job.note.write_text(f"{os.getpid()} {child.pid}")
        time.sleep(600)
    return ()
