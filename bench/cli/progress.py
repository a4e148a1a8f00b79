"""Progress of one piece of work: what is done, how much of it, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.run.progress import PLAIN_EVERY, clock

Report = Callable[[str, int, int], None]
"""(stage, step, of so many)."""


class Pace:
    """Seconds left of a stage, from its own pace; None before its first step."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._stage, self._began, self._first = now, "", now(), 0

    def left(self, stage: str, step: int, total: int) -> float | None:
        """After ``step`` of ``total``."""
        if stage != self._stage:
            self._stage, self._began, self._first = stage, self._now(), step
        done = step - self._first
        return (self._now() - self._began) * (total - step) / done if done > 0 else None


@contextmanager
def reported(console: Console, title: str) -> Iterator[Report]:
    """Within: what is given shows the stages of ``title`` on ``console``: a bar, or plain lines where there is no
    terminal."""
    pace, last = Pace(), [time.monotonic()]
    if not console.is_terminal:

        def say(stage: str, step: int, total: int) -> None:
            left = pace.left(stage, step, total)
            if time.monotonic() - last[0] > PLAIN_EVERY:
                last[0] = time.monotonic()
                console.print(f"{title}: {stage} {step}/{total}, left {clock(left)}", highlight=False)

        yield say
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}", markup=False), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, note="")

        def show(stage: str, step: int, total: int) -> None:
            left = clock(pace.left(stage, step, total))
            bar.update(task, completed=step, total=total, note=f"{stage} {step}/{total}, left {left}")

        yield show
