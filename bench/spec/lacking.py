"""Planning a suite before its weights and data are here: what is missing is noted, and said in one error. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from bench.data.fetch import FETCHABLE, HINTS
from bench.data.table import FOLDER, base_name, folder_address
from bench.errors import BenchError, DataError
from bench.interfaces import DatasetSpec, NetworkInfo
from bench.reading import read_json
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.plugins import Plugin
from bench.spec.registry import Registry
from bench.zoo.names import is_factory, is_outside

KNOWN = "known.json"
"""What is known of libraries' networks at their own size without building them (in ``bench.zoo``)."""

_FACTS = ("batch_norms", "classes", "layers", "parameters", "macs")


@dataclass
class Lacks:
    """What a plan needs and this machine lacks: networks without weights; data sets, with what reading them says."""

    networks: list[str] = field(default_factory=list)
    data: dict[str, DataError] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.networks or self.data)

    def error(self, dataset: str, where: str, root: Path | None) -> BenchError:
        """One error that lists everything, each with the command that brings it.

        Args:
            dataset: the suite's, which the networks were trained on.
            where: the place in the suite.
        """
        folder = root or "FOLDER"
        told = f" --data {dataset} --data-root {folder}"
        lines = [_brings(name, told) for name in self.networks]
        for name, error in self.data.items():
            lines.append(f"{name} ({error.where or 'not here'}): {_gives(name, error)}")
        parts = (
            [f"{len(self.networks)} {_word('network', len(self.networks))} without weights"] if self.networks else []
        )
        parts += [f"{len(self.data)} {_word('data set', len(self.data))}"] if self.data else []
        nouns = [noun for noun, found in (("weights", self.networks), ("data", self.data)) if found]
        what = f"{' and '.join(nouns)} that the suite needs are not here"
        return BenchError(what, where=where, got=" and ".join(parts), hint="\n  ".join(lines))


def _word(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def _brings(name: str, told: str) -> str:
    """The command that brings a network's weights."""
    return f"bench zoo add {name} {'FILE' if is_factory(name) else '--pretrained'}{told}"


def _gives(name: str, error: DataError) -> str:
    """What brings a data set."""
    if name.startswith(FOLDER):
        return f"put its images into {folder_address(name)[0]}/train/CLASS/*.jpg"
    if base_name(name) in FETCHABLE:
        return f"bench data fetch {base_name(name)}"
    return HINTS.get(base_name(name)) or error.hint or "name its folder with --data-root"


@dataclass(frozen=True)
class LackingCatalogue(ShippedCatalogue):
    """As the shipped one, but that a network nobody brought weights for, and a data set that is not here, are noted in
    ``lacks`` and stood for by what is known of them; a plan made so shows sizes and costs, and its ids are none."""

    lacks: Lacks = field(default_factory=Lacks)

    @classmethod
    def of(cls, root: Path | None = None, plugins: Sequence[Plugin] = ()) -> LackingCatalogue:
        """With methods in files besides."""
        kinds = [Registry(kind, plugins=plugins) for kind in ("sources", "compressors", "policies")]
        return cls(kinds[0], kinds[1], kinds[2], root)

    def dataset(self, name: str) -> DatasetSpec:
        try:
            return super().dataset(name)
        except DataError as error:
            if not name.startswith(FOLDER):
                raise
            self.lacks.data.setdefault(name, replace_where(error, str(folder_address(name)[0])))
            return DatasetSpec(name, 1, (3, 32, 32), (0.5,) * 3, (0.25,) * 3)

    def test_digest(self, dataset: str, subset: int | None) -> str:
        return self._digest(dataset, lambda: ShippedCatalogue.test_digest(self, dataset, subset))

    def train_digest(self, dataset: str) -> str:
        return self._digest(dataset, lambda: ShippedCatalogue.train_digest(self, dataset))

    def domain_digest(self, name: str, dataset: str) -> str:
        return self._digest(name, lambda: ShippedCatalogue.domain_digest(self, name, dataset))

    def _digest(self, name: str, read: Callable[[], str]) -> str:
        if name in self.lacks.data:
            return f"missing {name}"
        try:
            return read()
        except DataError as error:
            self.lacks.data[name] = error
            return f"missing {name}"

    def info(self, name: str) -> NetworkInfo:
        if not is_outside(name):
            return super().info(name)
        from bench.zoo.brought import brought

        if brought(name) is not None:
            return super().info(name)
        if name not in self.lacks.networks:
            self.lacks.networks.append(name)
        fact = known().get(name)
        if fact is None:
            return _unknown(name) if is_factory(name) else replace(super().info(name), shape=None)
        shape = tuple(fact["shape"])
        facts = {key: fact[key] for key in _FACTS}
        return NetworkInfo(
            name=name, digest=f"missing {name}", mean=tuple(fact["mean"]), std=tuple(fact["std"]), shape=shape, **facts
        )


def _unknown(name: str) -> NetworkInfo:
    """A network of which nothing is known but that ImageNet's constants stand where nothing is said."""
    return NetworkInfo(name, f"missing {name}", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), None)


def replace_where(error: DataError, where: str) -> DataError:
    """``error`` with another place."""
    return DataError(error.what, where=where, got=error.got, hint=error.hint)


@lru_cache(maxsize=1)
def known() -> dict[str, Any]:
    """See :data:`KNOWN`: name → facts as a manifest has them."""
    found: dict[str, Any] = read_json(resources.files("bench.zoo") / KNOWN)
    return found
