"""The sources that a suite compares at equal cost record the cost that their parameters promise, in one unit."""

from __future__ import annotations

from typing import Any

import pytest

from bench.interfaces import ModelHandle
from bench.spec.suite import load_suite
from tests import pick
from tests.contracts import kit
from tests.sources.costs import passes
from tests.sources.toy import context, request

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
    promised = passes(name, params, count)
    if getattr(params, "superpose", 0):  # which of its kinds fills how many batches, the draws decide
        assert promised - 2 * params.batch <= recorded <= promised
    else:
        assert recorded == promised
