"""DeepDream: no batch norm needed, its preset."""

from __future__ import annotations

from bench.interfaces import ModelHandle
from methods.sources.deepdream import METHOD
from tests.sources.toy import NoNorm, context, handle, request


def test_it_needs_no_batch_norm() -> None:
    bare: tuple[ModelHandle, ...] = (handle(NoNorm().eval(), "plain"),)
    METHOD.check(METHOD.Params(), bare)
    batch = METHOD.synthesize_batch(request(METHOD, bare, batch=8, iterations=10), context())
    assert batch.info["clean_bn"] == {}


def test_mini_is_what_the_specification_asks_for() -> None:
    assert (METHOD.access, METHOD.presets["mini"]["iterations"]) == ("T2a", 200)
