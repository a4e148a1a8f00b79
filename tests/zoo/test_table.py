"""The table keeps what the benchmark promises of its targets and zoos."""

from __future__ import annotations

import pytest
import timm
from torchvision import models

from bench.errors import SuiteError, WeightsError
from bench.zoo.checkpoints import weights_folder
from bench.zoo.small import BUILDERS
from bench.zoo.table import GROUPS, TABLE, entry
from bench.zoo.targets import info, target_names

TARGETS = {e.architecture for e in TABLE if e.role == "target"}


def test_names_are_unique_and_never_a_full_networks_own() -> None:
    names = [e.name for e in TABLE]
    assert len(set(names)) == len(names)
    library = {*timm.list_models(), *models.list_models(module=models)}
    assert not library & set(names)
    assert all(e.builder in BUILDERS for e in TABLE)


def test_the_six_targets_are_those_of_table_6() -> None:
    assert {"resnet18", "resnet50", "mobilenet_b", "mobilenetv2", "mnasnet", "efficientnet_b0"} == TARGETS


def test_a_named_network_is_in_no_list() -> None:
    """A suite of all targets neither asks for its weights nor changes when they come."""
    named = {e.name for e in TABLE if e.role == "named"}
    assert named
    assert not named & {name for group in GROUPS.values() for name in group}
    assert not {f"fashion_mnist/{name}" for name in named} & set(target_names("fashion_mnist"))
    for name in named:
        if not (weights_folder("fashion_mnist") / f"{name}.json").exists():
            with pytest.raises(WeightsError, match=name):
                info(f"fashion_mnist/{name}")


def test_the_full_zoo_is_large_varied_and_holds_no_target() -> None:
    full = [entry(name) for name in GROUPS["full"]]
    assert len(full) >= 9
    assert len({e.family for e in full}) >= 7
    assert all(e.role == "zoo" for e in full)
    assert not {e.architecture for e in full} & {"resnet18", "mobilenet_b", "efficientnet_b0"}


def test_a_shared_architecture_has_another_seed() -> None:
    built = [(e.builder, str(e.kwargs), e.seed) for e in TABLE]
    assert len(set(built)) == len(built)
    shared = {e.architecture for e in TABLE if e.role == "zoo"} & TARGETS
    assert shared == {"mobilenetv2", "mnasnet", "resnet50"}  # the last with a deep stem


@pytest.mark.parametrize("group", ["mobile", "residual"])
def test_smaller_zoos_are_parts_of_the_full_one(group: str) -> None:
    assert len(GROUPS[group]) == 3
    assert set(GROUPS[group]) < set(GROUPS["full"])


def test_an_unknown_network_comes_with_the_nearest() -> None:
    assert entry("fashion_mnist/resnet18_w10") is entry("resnet18_w10")
    with pytest.raises(SuiteError) as caught:
        entry("resnet18_w16")
    assert caught.value.nearest == "resnet18_w10"
