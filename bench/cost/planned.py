"""A plan's jobs that are left, and what they will take on which device.  No torch; nothing is written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.cost import calibration, evidence
from bench.cost.calibration import Calibration
from bench.cost.forecast import Facts, Forecast, KindTotal, wall_seconds
from bench.data.places import open_split
from bench.errors import BenchError, DataError
from bench.spec.catalogue import Catalogue
from bench.spec.graph import BatchJob, Job, PolicyJob
from bench.spec.plan import Plan
from bench.store.meta import batch_name
from bench.store.objects import ObjectReader
from bench.store.policies import POLICY

EACH_CLASS = 50
"""Test images of a class where they are not here to be counted: as many as ImageNet's validation set has."""


@dataclass(frozen=True)
class Cost:
    """What jobs take on one device: by kind, and all of it.

    ``device``: cpu | cuda; ``workers`` at a time.  ``machine`` is the one that was calibrated, with the date, None
    where no calibration took part.  ``tested_guessed``: how many test images there are is not known.
    """

    device: str
    kinds: Mapping[str, KindTotal]
    workers: int
    machine: str | None
    date: str | None
    tested_guessed: bool

    @property
    def known(self) -> bool:
        """Whether the time on the machine asked about is known: no job without a forecast, none that only another
        machine's seconds tell of."""
        return self.unknown == 0 and all("elsewhere" not in total.bases for total in self.kinds.values())

    @property
    def unknown(self) -> int:
        """Jobs that nothing tells of."""
        return sum(total.unknown for total in self.kinds.values())

    @property
    def elsewhere(self) -> bool:
        """Whether some seconds are another machine's."""
        return any("elsewhere" in total.bases for total in self.kinds.values())

    @property
    def seconds(self) -> float:
        """CPU seconds on a CPU, wall seconds of the device on CUDA, of the jobs that have a forecast."""
        return sum(total.seconds for total in self.kinds.values())

    @property
    def wall(self) -> float:
        """Seconds until all that has a forecast is done."""
        return wall_seconds(self.kinds, self.workers)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "device": self.device,
            "machine": self.machine,
            "calibrated": self.date,
            "known": self.known,
            "seconds": self.seconds,
            "wall_seconds": self.wall,
            "workers": self.workers,
            "kinds": {
                kind: {
                    "jobs": total.jobs,
                    "unknown": total.unknown,
                    "rough": total.rough,
                    "seconds": total.seconds,
                    "basis": sorted(total.bases),
                }
                for kind, total in self.kinds.items()
            },
        }


def left(jobs: Sequence[Job], store: Path) -> tuple[Job, ...]:
    """The jobs whose results are not in the store."""
    objects = ObjectReader(store)

    def stored(job: Job) -> bool:
        if isinstance(job, BatchJob):
            return objects.has(job.images.synth_id, batch_name(job.index))
        return isinstance(job, PolicyJob) and objects.has(job.key, POLICY)

    return tuple(job for job in jobs if not stored(job))


def costs_of(
    plan: Plan,
    jobs: Sequence[Job],
    catalogue: Catalogue,
    store: Path,
    workers: int | None,
    files: Sequence[Path] = (),
    root: Path | None = None,
) -> tuple[Cost, ...]:
    """The jobs' cost on this machine's CPU, and on its GPU where that is calibrated; on the machines of ``files`` alone
    where calibrations are named.

    Args:
        workers: jobs at a time on a CPU; one for each core unless given.

    Raises:
        BenchError: a calibration is damaged, or two are of one device.
    """
    speeds = _by_device([calibration.read_calibration(path) for path in files] or calibration.kept_here())
    own = () if files else evidence.of_store(store)
    tested, guessed = _tested(plan, root)
    facts = Facts(_macs(catalogue), tested)
    devices = list(speeds) if files else ["cpu", *(name for name in speeds if name != "cpu")]
    found = []
    for device in devices:
        speed = speeds.get(device)
        mine = [row for row in own if row.device == device]
        forecast = Forecast(device, mine, evidence.shipped(), calibration.reference(), speed, facts)
        at_once = _workers(workers, device, speed)
        machine, date = (speed.name, speed.date) if speed else (None, None)
        found.append(Cost(device, forecast.totals(jobs), at_once, machine, date, guessed))
    return tuple(found)


def _by_device(found: Sequence[Calibration]) -> dict[str, Calibration]:
    speeds: dict[str, Calibration] = {}
    for one in found:
        if one.device in speeds:
            got = f"{speeds[one.device].name} and {one.name}"
            raise BenchError(f"two calibrations of {one.device}", where="--cost", got=got, hint="Name one of each.")
        speeds[one.device] = one
    return speeds


def _workers(asked: int | None, device: str, speed: Calibration | None) -> int:
    """Jobs at a time: no more than the machine has cores, and one on a GPU, which jobs share."""
    if device == "cuda":
        return 1
    cores = speed.cores if speed else os.cpu_count() or 1
    return cores if asked is None else max(1, min(asked, cores))


def _macs(catalogue: Catalogue) -> Any:
    @cache
    def macs(name: str) -> float | None:
        try:
            return float(catalogue.info(name).macs or 0) or None
        except BenchError:
            return None

    return macs


def _tested(plan: Plan, root: Path | None) -> tuple[int, bool]:
    """How many test images each cell is measured on, and whether that is a guess because they are not here."""
    if plan.suite.test_subset is not None:
        return plan.suite.test_subset, False
    try:
        return len(open_split(plan.suite.dataset, "test", root).labels), False
    except DataError:
        return EACH_CLASS * plan.synths[0].dataset.classes if plan.synths else 0, True
