"""A small world for plans: methods in a package made for the test, five networks that are only names."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from bench.errors import DataError, WeightsError
from bench.interfaces import DatasetSpec, Membership, NetworkInfo
from bench.spec.registry import Registry

SOURCE = """
from typing import Literal
from pydantic import Field
from bench.interfaces import MethodParams

class Params(MethodParams):
    iterations: int = Field(default=100, ge=1)
    mix: int = 3
    data_mixing: bool = True
    rate: float | Literal["auto"] = "auto"
    batch: int = 32

class Source:
    version = 1
    summary = paper = ""
    needs = frozenset({needs})
    access, control, models, label_kind = {access!r}, {control!r}, {models!r}, "assigned"
    offers = frozenset()
    Params = Params
    presets = {{"mini": {{"iterations": 10}}, "paper": {{"iterations": 1000}}}}
    def batch_size(self, params):
        return params.batch
    def check(self, params, models):
        pass
    def synthesize_batch(self, request, ctx):
        raise AssertionError("a plan makes no image")

METHOD = Source()
"""

COMPRESSOR = """
from bench.interfaces import MethodParams

class Params(MethodParams):
    steps: int = 5

class Compressor:
    version = 2
    summary = paper = ""
    needs, offers = frozenset(), frozenset()
    accepts = frozenset({accepts})
    deliveries, makes_zeros, keeps_zeros = frozenset({{"cached"}}), False, False
    def variants(self, params, setting):
        return (setting,)
    def check(self, params, model):
        pass
    def compress(self, model, images, setting, params, ctx):
        raise AssertionError("a plan compresses nothing")
    Params = Params
    presets = {{"mini": {{}}, "paper": {{"steps": 50}}}}

METHOD = Compressor()
"""

SOURCES = {
    "real": {"access": "T6", "control": "upper", "models": "none", "needs": []},
    "noise": {"access": "T1", "control": "lower", "models": "none", "needs": []},
    "kw": {"access": "T2a", "control": "none", "models": "one", "needs": ["bn"]},
    "dream": {"access": "T2a", "control": "none", "models": "one", "needs": []},
    "mixmix": {"access": "T2b", "control": "none", "models": "zoo", "needs": ["bn"]},
    "dafl": {"access": "T2b", "control": "none", "models": "one+zoo", "needs": []},
}
COMPRESSORS = {"rtn": ["bits"], "brecq": ["bits"], "prune": ["sparsity"], "distil": ["student"]}


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of an importable package with ``sources`` and ``compressors``."""
    root = tmp_path_factory.mktemp("methods")
    for kind in ("sources", "compressors"):
        (root / "toy_methods" / kind).mkdir(parents=True)
        (root / "toy_methods" / kind / "__init__.py").touch()
    (root / "toy_methods" / "__init__.py").touch()
    for name, facts in SOURCES.items():
        (root / "toy_methods" / "sources" / f"{name}.py").write_text(dedent(SOURCE).format(**facts))
    for name, accepts in COMPRESSORS.items():
        text = dedent(COMPRESSOR).format(accepts=accepts)
        (root / "toy_methods" / "compressors" / f"{name}.py").write_text(text)
    (root / "toy_methods" / "sources" / "_shared.py").write_text("")
    sys.path.insert(0, str(root))
    yield "toy_methods"
    sys.path.remove(str(root))


@dataclass
class ToyCatalogue:
    """Targets resnet_a, resnet_b, mobile_c (without BN); zoo: z1, z2, z3 and resnet_a's sister."""

    sources: Registry
    compressors: Registry

    def dataset(self, name: str) -> DatasetSpec:
        if name != "toy":
            raise DataError("unknown data set", got=name)
        return DatasetSpec("toy", 10, (1, 8, 8), (0.5,), (0.25,))

    def test_digest(self, dataset: str, subset: int | None) -> str:
        return hashlib.sha256(f"{dataset}{subset}".encode()).hexdigest()

    def train_digest(self, dataset: str) -> str:
        return "t" * 64

    def targets(self, dataset: str) -> tuple[str, ...]:
        return ("toy/resnet_a", "toy/resnet_b", "toy/mobile_c")

    def networks(self, dataset: str) -> tuple[str, ...]:
        return (*self.targets(dataset), "toy/z1", "toy/z2", "toy/z3", "toy/untrained")

    def zoo_groups(self, dataset: str) -> tuple[str, ...]:
        return ("full", "mobile")

    def zoo(self, dataset: str, group: str) -> tuple[str, ...]:
        return {"full": ("toy/z1", "toy/z2", "toy/z3"), "mobile": ("toy/z1",)}[group]

    def info(self, name: str) -> NetworkInfo:
        if name == "toy/untrained":
            raise WeightsError("no weights for this network", where=name)
        mean = (0.1,) if name.startswith("timm:") else (0.5,)
        digest = hashlib.sha256(name.encode()).hexdigest()
        return NetworkInfo(name, digest, mean, (0.25,), batch_norms=0 if "mobile" in name else 4)

    def check_student(self, name: str, dataset: str, where: str) -> None:
        """The toy networks can all be built."""

    def membership(self, target: str, models: tuple[str, ...]) -> Membership:
        return "same checkpoint" if target in models else "held-out architecture"


@pytest.fixture
def catalogue(package: str) -> ToyCatalogue:
    return ToyCatalogue(Registry("sources", package), Registry("compressors", package))


SUITE = """\
# a suite for tests
suite: toy_suite
version: 1
dataset: toy
grid:
  source: [real, noise, {kw: {model: each_target}}, mixmix]
  target: [resnet_a, resnet_b]
  compressor: [rtn, brecq]
  bits: [W4A4, {W4A8: {target: resnet_b}}]
images: 40
seeds: [0, 1]
claims:
  - says: own images are better
    better: {source: kw, model: own}
    worse: {source: kw, model: foreign, over: mean}
    by: target
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy_suite.yaml"
    path.write_text(SUITE)
    return path
