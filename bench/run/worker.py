"""What one process keeps between jobs, and what a method is given besides its request."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import __version__, runtime
from bench.data.access import DataAccess
from bench.data.datasets import Arrays, Dataset, get_dataset
from bench.data.places import domain_root
from bench.interfaces import DatasetSpec, ModelHandle, RunContext, Tier
from bench.run.fp import FpResult, check_sound, fp_result
from bench.run.integrity import Integrity
from bench.run.tasks import Settings
from bench.spec.plan import SynthJob
from bench.spec.plugins import PROTOCOLS
from bench.spec.registry import Registry
from bench.store.artifacts import ArtifactStore
from bench.store.policies import PolicyStore
from bench.zoo import targets

log = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]


def waiting(report: Report) -> Callable[[], None]:
    """What is said while another process makes what this one wants."""
    return lambda: report("waiting for another run", 0, 1)


class Bench:
    """What one process keeps between jobs: networks, data sets, registries. A network is loaded once."""

    sealed = False
    """Whether this is the process of a foreign method, which has the engine's files but not its data."""

    def __init__(self, settings: Settings, integrity: Integrity | None = None) -> None:
        self.settings = settings
        self.integrity = Integrity(integrity)
        self.store = ArtifactStore(Path(settings.store))
        self.sources, self.compressors, self.searches = (Registry(kind, plugins=settings.plugins) for kind in PROTOCOLS)
        self.dtype = runtime.compute_dtype(settings.dtype)
        self._models: dict[str, ModelHandle] = {}
        self._datasets: dict[str, Dataset] = {}
        self._fp: dict[tuple[str, int | None], FpResult] = {}

    @property
    def device(self) -> torch.device:
        return torch.device(self.settings.device)

    @cached_property
    def policies(self) -> PolicyStore:
        return PolicyStore(self.store.objects)

    @cached_property
    def facts(self) -> dict[str, Any]:
        return {**runtime.facts(self.settings.device, self.settings.threads), "datafree_bench": __version__}

    def model(self, name: str) -> ModelHandle:
        if name not in self._models:
            handle = targets.load(name)
            check_sound(handle)
            handle.module.to(self.settings.device)
            self.integrity.watch(name, handle.module)
            self._models[name] = handle
        return self._models[name]

    def dataset(self, name: str) -> Dataset:
        if name not in self._datasets:
            self._datasets[name] = get_dataset(name, self.data_root())
        return self._datasets[name]

    def data_root(self, dataset: str = "", domain: str | None = None) -> Path | None:
        """The folder of the run's data, or the one in which the images of another domain are looked for beside
        ``dataset``."""
        root = Path(self.settings.data_root) if self.settings.data_root else None
        return root if domain is None else domain_root(domain, dataset, root)

    def test_batches(self, dataset: str, subset: int | None) -> Iterator[Arrays]:
        """The test images with their labels, batch by batch, anew with each call; where the engine is not (``sealed``)
        without: each label is -1."""
        return self.dataset(dataset).test_batches(subset)

    def access(self, dataset: str, constants: SynthJob, tier: Tier) -> DataAccess:
        """A door to the data, in the constants the images of this set are normalised with."""
        found = dataclasses.replace(self.dataset(dataset), spec=constants.dataset)
        return DataAccess(found, tier, self._unrelated(dataset, constants.source.domain))

    def _unrelated(self, dataset: str, domain: str | None) -> Dataset | None:
        """The data set of another domain: the one a row names, else the run's."""
        other = domain or self.settings.unrelated
        if other is None or other == dataset:
            return None
        return get_dataset(other, self.data_root(dataset, domain))

    def answered(self, cell_id: str, answers: Tensor) -> None:
        """Keep what a cell's network says of the test images [N], to be marked where their labels are."""
        raise LookupError("whoever has the labels marks the answers at once")

    def ready_to_measure(self) -> None:
        """The methods are done; of their code only the forward of a network runs from here on.

        Raises:
            Changed: what measures is not what it was.
        """
        self.integrity.check()

    def fp(self, target: ModelHandle, dataset: Dataset, subset: int | None) -> FpResult:
        key = (target.digest, subset)
        if key not in self._fp:
            self._fp[key] = fp_result(target, dataset, subset, Path(self.settings.store), self.settings.device)
        return self._fp[key]


class Recorder:
    """Collects a job's curves and hands its progress on."""

    def __init__(self, report: Report) -> None:
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.report = report

    def scalar(self, name: str, step: int, value: float) -> None:
        self.curves.setdefault(name, []).append((step, float(value)))


def context_of(
    bench: Bench, spec: DatasetSpec, access: DataAccess, seed: int, recorder: Recorder, scratch: str
) -> RunContext:
    generator = runtime.make_generator(seed)
    return RunContext(
        device=bench.device,
        dtype=bench.dtype,
        generator=generator,
        data=access,
        untrained=lambda name: targets.untrained(name, spec, generator).to(bench.settings.device),
        scratch=Path(scratch),
        logger=log,
        report=recorder.report,
        log_scalar=recorder.scalar,
    )
