"""What applies to a network, by what methods declare; how effort scales their parameters."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.advise.candidates import Level, Source, find, scaled
from bench.advise.network import find as network_of
from bench.advise.rounds import LEVELS
from bench.errors import BenchError
from bench.interfaces import TIERS
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.registry import Registry, resolve_params
from bench.spec.select import parse_only
from tests import pick

from .conftest import registered

AXES = ("source", "compressor")
SOURCES, COMPRESSORS = Registry("sources"), Registry("compressors")


def test_every_source_is_a_candidate_a_reference_or_left_out_with_a_reason() -> None:
    catalogue = ShippedCatalogue()
    network = network_of("resnet18_w10", None, catalogue)
    found = find(network, catalogue, True, None)
    names = [one.name for one in (*found.sources, *found.references, *found.left_out)]
    assert sorted(names) == sorted(SOURCES.names())
    assert all(one.why for one in found.left_out)
    for one in found.sources:
        assert TIERS.index(SOURCES.get(one.name).access) < TIERS.index("T4")
        assert SOURCES.get(one.name).control == "none"
    assert {SOURCES.get(one.name).control for one in found.references} == {"upper", "lower"}


def test_no_training_of_networks_is_a_candidate() -> None:
    catalogue = ShippedCatalogue()
    found = find(network_of("resnet18_w10", None, catalogue), catalogue, False, None)
    for one in found.compressors:
        method = COMPRESSORS.get(one.name)
        assert method.accepts == {"bits"}
        assert not method.offers & {"teacher", "alone"}
    assert {one.name for one in found.references} == set(pick.methods("sources", control="lower"))


def test_a_network_without_norms_and_without_kin(place: Path) -> None:
    registered(place / "data", "own_tiny:bare")
    shutil.rmtree(place / "data")
    catalogue = ShippedCatalogue()
    found = find(network_of("own_tiny:bare", None, catalogue), catalogue, False, None)
    why = {one.name: one.why for one in found.left_out}
    for name in SOURCES.names():
        method = SOURCES.get(name)
        if method.control == "none" and TIERS.index(method.access) < TIERS.index("T4"):
            if "bn" in method.needs:
                assert "batch normalisation" in why[name]
            elif method.models == "zoo":
                assert "several networks" in why[name]
            else:
                assert name not in why


def test_only_names_candidates() -> None:
    catalogue = ShippedCatalogue()
    network = network_of("resnet18_w10", None, catalogue)
    source, compressor = pick.name("sources", access="T2a"), pick.ROUND
    found = find(network, catalogue, False, parse_only(f"source={source},compressor={compressor}", AXES))
    assert [one.name for one in found.sources] == [source]
    assert [one.name for one in found.compressors] == [compressor]
    with pytest.raises(BenchError, match="no source applies"):
        find(network, catalogue, False, parse_only("source=nothing", AXES))


@pytest.mark.parametrize("level", LEVELS)
def test_scaled_parameters_are_ones_that_the_methods_take(level: Level) -> None:
    catalogue = ShippedCatalogue()
    found = find(network_of("resnet18_w10", None, catalogue), catalogue, True, None)
    for source in (*found.sources, *found.references):
        resolve_params(SOURCES.get(source.name), "mini", source.params(level, 32 * 32), name=source.name)
    for one in found.compressors:
        resolve_params(COMPRESSORS.get(one.name), "mini", one.params(level), name=one.name)
        assert level.effort < 1 or one.params(level) == {}


def test_effort_scales_iterations_alone() -> None:
    values = {"iterations": 400, "half_iterations": 0, "step_iterations": 3, "lr": 0.1, "batch": 32, "warmup": 30}
    assert scaled(values, 0.25) == {"iterations": 100, "step_iterations": 1}
    assert scaled(values, 1) == {}


def test_a_batch_is_no_larger_than_the_set_nor_than_memory() -> None:
    source = Source("any", "none", 128, False, {"batch": 128})
    assert source.params(Level(64, 1.0), 32 * 32) == {"batch": 64}
    assert source.params(Level(256, 1.0), 32 * 32) == {}
    assert source.params(Level(256, 1.0), 224 * 224) == {"batch": 16}
    assert Source("any", "none", 128, True, {"batch": 128}).params(Level(64, 1.0), 32 * 32) == {}
