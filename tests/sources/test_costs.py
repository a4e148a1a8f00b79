"""The sources that a suite compares at equal cost record the cost that their parameters promise, in one unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.interfaces import ModelHandle
from bench.spec.suite import load_suite
from tests import pick
from tests.contracts import kit
from tests.sources.costs import generator_macs, passes
from tests.sources.toy import GREY, context, request

COMPARED = {row.method for row in load_suite("sources_all").grid.source}
SOURCES = {name: source for name, source in pick.methods("sources").items() if name in COMPARED}
SWITCHES: tuple[dict[str, Any], ...] = ({}, {"mix": 2}, {"slack": False}, {"superpose": 0.0}, {"groups": 2})
"""What changes a source's cost besides its counts."""
CASES = [(n, s) for n, source in SOURCES.items() for s in SWITCHES if set(s) <= set(source.Params.model_fields)]


@pytest.mark.parametrize(("name", "switch"), CASES)
def test_recorded_cost_is_the_promised_one(name: str, switch: dict[str, Any], zoo: tuple[ModelHandle, ...]) -> None:
    source = SOURCES[name]
    params: Any = kit.small(source).model_copy(update=switch)
    several = getattr(params, "mix", 1) > 1
    batches = [
        source.synthesize_batch(request(source, zoo if several else zoo[:1], k, **params.model_dump()), context(k))
        for k in (0, 1)
    ]
    count = sum(len(batch.images) for batch in batches)
    recorded = sum(batch.forward_equivalents for batch in batches) / 2
    ratio = generator_macs(name, params, GREY.shape)  # toy's networks have 1
    promised = passes(name, params, count, ratio)
    if getattr(params, "superpose", 0):  # which of its kinds fills how many batches, the draws decide
        assert promised - 2 * params.batch * (1 + ratio) <= recorded <= promised
    else:
        assert recorded == promised


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.models in ("zoo", "one+zoo")])
def test_of_several_networks_each_counts_by_its_macs(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    """What is recorded, times the unit, is every image's multiply-accumulates; equal networks hide which they were."""
    source = SOURCES[name]
    models = tuple(replace(handle, macs=macs) for handle, macs in zip(zoo[:3], (3, 30, 300), strict=True))
    params: Any = kit.small(source).model_copy(update={"mix": 2})
    asked = request(source, models, **params.model_dump())
    batch = source.synthesize_batch(asked, context())
    assert asked.unit_macs == 111
    spent = batch.forward_equivalents * asked.unit_macs
    if source.models == "zoo":  # the two networks of this batch are in its record
        drawn = sum(handle.macs for handle in models if handle.name in batch.info["models"])
        assert spent == pytest.approx(len(batch.images) * (2 * params.iterations + 1) * drawn)
        return
    generator, images = generator_macs(name, params, GREY.shape), len(batch.images)
    sampled = -(-images // params.batch) * params.batch
    teacher = 2 * params.batch * params.iterations * (3 + generator) + sampled * (3 + generator)
    assert spent - teacher == pytest.approx(2 * params.batch * params.iterations * (30 + 300))
