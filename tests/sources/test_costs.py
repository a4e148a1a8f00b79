"""Every synthesising source records the cost that its parameters promise, in one unit."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from bench.interfaces import ModelHandle
from tests.sources.costs import passes
from tests.sources.toy import context, request

GENERATOR: dict[str, Any] = {"iterations": 3, "batch": 8, "images": 20, "width": 8, "latent": 6}
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {"iterations": 3, "batch": 8}) for name in ("deepdream", "zeroq", "kw", "deepinversion", "hast")),
    ("mixmix", {"iterations": 3, "batch": 8, "mix": 2}),
    ("genie", {"iterations": 3, "batch": 8, "width": 8}),
    ("intraq", {"iterations": 3, "batch": 4, "groups": 2}),
    ("dsg", {"iterations": 3, "batch": 8, "noise_images": 48}),
    ("dsg", {"iterations": 3, "batch": 8, "slack": False}),
    ("dafl", GENERATOR),
    ("gdfq", GENERATOR),
    ("qimera", GENERATOR | {"superpose": 0.0}),
    ("qimera", GENERATOR | {"superpose": 0.4}),
    ("dafl_mixmix", GENERATOR | {"mix": 1}),
    ("dafl_mixmix", GENERATOR | {"mix": 2}),
)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_recorded_cost_is_the_promised_one(name: str, params: dict[str, Any], zoo: tuple[ModelHandle, ...]) -> None:
    source = importlib.import_module(f"methods.sources.{name}").METHOD
    several = params.get("mix", 1) > 1
    batches = [
        source.synthesize_batch(request(source, zoo if several else zoo[:1], k, **params), context(k)) for k in (0, 1)
    ]
    count = sum(len(batch.images) for batch in batches)
    recorded = sum(batch.forward_equivalents for batch in batches) / 2
    promised = passes(name, source.Params(**params), count)
    if name == "qimera" and params["superpose"]:  # which of its kinds fills how many batches, the draws decide
        assert promised - 2 * params["batch"] <= recorded <= promised
    else:
        assert recorded == promised
