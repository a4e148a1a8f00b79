"""What exists: methods, networks, data sets.  The plan asks a Catalogue; tests bring their own small one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from bench.data.table import measured_on_test
from bench.data.table import seen_in_training as dataset_was_seen
from bench.errors import SuiteError, nearest
from bench.interfaces import DatasetSpec, Membership, NetworkInfo
from bench.spec.plugins import PROTOCOLS, Plugin
from bench.spec.registry import Registry
from bench.zoo.names import OUTSIDE_FORMS, is_outside


class Catalogue(Protocol):
    """The world a suite speaks of.  Names of networks are full: ``fashion_mnist/resnet18_w16``, ``timm:resnet18``."""

    @property
    def sources(self) -> Registry: ...

    @property
    def compressors(self) -> Registry: ...

    @property
    def policies(self) -> Registry: ...

    def dataset(self, name: str) -> DatasetSpec:
        """Constants of a data set. Raises DataError when there is none of this name, or its folder is missing."""

    def test_digest(self, dataset: str, subset: int | None) -> str:
        """SHA-256 of the test images and labels, or of the class-balanced subset of so many."""

    def train_digest(self, dataset: str) -> str:
        """SHA-256 of the training images a source may read."""

    def domain_digest(self, name: str, dataset: str) -> str:
        """SHA-256 of the training images of the data set ``name``, which serve as unrelated images beside ``dataset``.
        Raises DataError where they are not here."""

    def targets(self, dataset: str) -> tuple[str, ...]:
        """Full names of the target networks trained on ``dataset``, in the table's order."""

    def networks(self, dataset: str) -> tuple[str, ...]:
        """Full names of all networks there are recipes or weights for: targets and zoo."""

    def zoo_groups(self, dataset: str) -> tuple[str, ...]:
        """Names of the groups of zoo networks: full, mobile, residual."""

    def zoo(self, dataset: str, group: str) -> tuple[str, ...]:
        """Full names of a group's networks, in the table's order."""

    def info(self, name: str) -> NetworkInfo:
        """Of a network, light. Raises WeightsError when its manifest is missing or damaged."""

    def check_student(self, name: str, dataset: str, where: str) -> None:
        """Raise SuiteError when the network (full name) cannot be built for the data set's images."""

    def membership(self, target: str, models: tuple[str, ...]) -> Membership:
        """How ``target`` relates to the networks the images come from."""


@dataclass(frozen=True)
class ShippedCatalogue:
    """The real one: methods/ and entry points, bench.zoo, bench.data; each imported when first asked.

    ``root`` is the folder of a data set that is not embedded, where the user named one.
    """

    @classmethod
    def of(cls, root: Path | None = None, plugins: Sequence[Plugin] = ()) -> ShippedCatalogue:
        """With methods in files besides."""
        sources, compressors, policies = (Registry(kind, plugins=plugins) for kind in PROTOCOLS)
        return cls(sources, compressors, policies, root)

    sources: Registry = field(default_factory=lambda: Registry("sources"))
    compressors: Registry = field(default_factory=lambda: Registry("compressors"))
    policies: Registry = field(default_factory=lambda: Registry("policies"))
    root: Path | None = None

    def dataset(self, name: str) -> DatasetSpec:
        from bench.data.table import spec_of

        return spec_of(name)

    def test_digest(self, dataset: str, subset: int | None) -> str:
        from bench.data.table import digest

        return digest(dataset, "test", self.root, subset)

    def train_digest(self, dataset: str) -> str:
        return _train_digest(dataset, self.root)

    def domain_digest(self, name: str, dataset: str) -> str:
        from bench.data.places import domain_root

        return _train_digest(name, domain_root(name, dataset, self.root))

    def targets(self, dataset: str) -> tuple[str, ...]:
        from bench.zoo.targets import target_names

        return tuple(full_name(dataset, name) for name in target_names(measured_on_test(dataset)))

    def networks(self, dataset: str) -> tuple[str, ...]:
        from bench.zoo.table import TABLE

        # Also those without weights yet: naming one then says that it must be trained, not that it does not exist.
        return tuple(full_name(dataset, entry.name) for entry in TABLE)

    def zoo_groups(self, dataset: str) -> tuple[str, ...]:
        from bench.zoo.table import GROUPS

        return tuple(GROUPS)

    def zoo(self, dataset: str, group: str) -> tuple[str, ...]:
        from bench.zoo.targets import zoo_names

        return tuple(full_name(dataset, name) for name in zoo_names(measured_on_test(dataset), group))

    def info(self, name: str) -> NetworkInfo:
        from bench.zoo.targets import info

        return info(name)

    def check_student(self, name: str, dataset: str, where: str) -> None:
        from bench.zoo.libraries import check_student

        if is_outside(name):
            check_student(name, self.dataset(dataset), where)

    def membership(self, target: str, models: tuple[str, ...]) -> Membership:
        from bench.zoo.targets import membership

        return membership(target, models)


@lru_cache(maxsize=8)
def _train_digest(dataset: str, root: Path | None) -> str:
    from bench.data.table import digest

    return digest(dataset, "train", root)


def full_name(dataset: str, name: str) -> str:
    """``fashion_mnist/resnet18_w16`` of ``resnet18_w16``; names that are full already, or of networks from outside,
    stay."""
    owner = measured_on_test(dataset)
    return name if name.startswith(f"{owner}/") or is_outside(name) else f"{owner}/{name}"


def short_name(dataset: str, name: str) -> str:
    """The inverse of :func:`full_name`: what stands in a row."""
    return name.removeprefix(f"{measured_on_test(dataset)}/")


def seen_in_training(dataset: str) -> bool:
    """Whether the networks of a data set were trained on its test images."""
    return dataset_was_seen(dataset)


def shipped_weights() -> dict[str, str]:
    """Full name of every network whose weights come with the package → their digest, from the manifests.

    Raises:
        WeightsError: a manifest is damaged.
    """
    from bench.zoo.checkpoints import SHIPPED, manifests

    folders = [folder for folder in sorted(SHIPPED.iterdir()) if folder.is_dir()]
    return {full_name(folder.name, fact["name"]): fact["digest"] for folder in folders for fact in manifests(folder)}


def find_network(catalogue: Catalogue, dataset: str, name: str, where: str) -> str:
    """The full name of one network.

    Raises:
        SuiteError: ``dataset`` has no such network.
    """
    full = full_name(dataset, name)
    known = catalogue.networks(dataset)
    if not is_outside(name) and full not in known:
        short = [short_name(dataset, item) for item in known]
        raise SuiteError(
            f"{dataset} has no such network",
            where=where,
            got=name,
            expected=[*short, *OUTSIDE_FORMS],
            nearest=nearest(name, short),
        )
    return full
