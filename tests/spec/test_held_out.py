"""Suites on a data set for tuning: the networks are those of the data set it is cut from."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import SuiteError
from bench.spec.catalogue import ShippedCatalogue, find_network, full_name, short_name
from bench.spec.plan import make_plan
from bench.spec.suite import load_suite
from tests import pick

BASE, TUNING = "fashion_mnist", "fashion_mnist+held_out"

SUITE = """
suite: tiny
version: 1
dataset: {dataset}
grid:
  source: [{upper}, {{{inverting}: {{model: {model}}}}}]
  target: [resnet18_w10]
  compressor: [{round}]
  bits: [W4A4]
images: 40
seeds: [0]
test_subset: 200
"""


def test_networks_are_those_of_the_base() -> None:
    catalogue = ShippedCatalogue()
    assert catalogue.targets(TUNING) == catalogue.targets(BASE) != ()
    assert catalogue.networks(TUNING) == catalogue.networks(BASE)
    assert catalogue.zoo(TUNING, "full") == catalogue.zoo(BASE, "full")
    for name in ("resnet18_w10", "fashion_mnist/resnet18_w10"):
        assert find_network(catalogue, TUNING, name, "here") == "fashion_mnist/resnet18_w10"
    assert full_name(TUNING, "timm:resnet18") == short_name(TUNING, "timm:resnet18") == "timm:resnet18"
    with pytest.raises(SuiteError, match="no such network") as raised:
        find_network(catalogue, TUNING, "resnet18_w9", "here")
    assert raised.value.nearest == "resnet18_w10"


def test_rows_have_short_names_and_digests_of_their_own(tmp_path: Path) -> None:
    pick.need_small_runs()
    inverting = pick.name("sources", models="one", access="T2a")
    plans = {}
    for dataset in (BASE, TUNING):
        path = tmp_path / f"{len(plans)}.yaml"
        given = {"upper": pick.UPPER, "round": pick.ROUND, "inverting": inverting, "model": "vgg_bn_w12"}
        path.write_text(SUITE.format(dataset=dataset, **given))
        plans[dataset] = make_plan(load_suite(path), catalogue=ShippedCatalogue())
    rows = {dataset: [(cell.target, cell.model) for cell in plan.cells] for dataset, plan in plans.items()}
    assert rows[TUNING] == rows[BASE] == [("resnet18_w10", ""), ("resnet18_w10", "vgg_bn_w12")]
    assert {cell.target_name for cell in plans[TUNING].cells} == {"fashion_mnist/resnet18_w10"}
    for kind in ("cell_id", "synth_id"):
        base, tuning = ({getattr(cell, kind) for cell in plan.cells} for plan in plans.values())
        assert base.isdisjoint(tuning)
