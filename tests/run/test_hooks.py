"""What a source offers a training on its images, through the runner."""

from __future__ import annotations

from pathlib import Path

from tests import pick
from tests.run.conftest import Run

HOOKS = """
suite: tiny
version: 1
dataset: fashion_mnist
grid:
  source: [{offers}, {none}]
  target: [resnet18_w10]
  compressor: [{plain}, {asks}]
  student: [mobilenetv2_w035]
images: 16
seeds: [0]
test_subset: 100
"""


def test_a_source_s_own_extra_is_used_where_it_is_asked_for(run: Run, suite: Path) -> None:
    source = pick.name("sources", offers="hook")
    student = pick.name("compressors", accepts="student", params=("source_hook",))
    few = {"steps": 3, "batch": 16}
    suite.write_text(
        HOOKS.format(
            offers=pick.values("sources", source, iterations=2, batch=16),
            none=pick.LOWER,
            plain=pick.values("compressors", student, **few),
            asks=pick.values("compressors", student, **few, source_hook=True),
        )
    )
    found = {(r.source_method, r.compressor_params["source_hook"]): r for r in run()}
    plain, promoted = found[source, False], found[source, True]
    assert (plain.status, promoted.status) == ("ok", "ok"), promoted.reason
    assert promoted.costs["compress"].forward_equivalents >= plain.costs["compress"].forward_equivalents
    assert promoted.report["kl_last"] != plain.report["kl_last"]
    assert found[pick.LOWER, False].status == "ok"
    refused = found[pick.LOWER, True]
    assert refused.status == "not_applicable"
    assert "offers no hook" in str(refused.reason)


def test_a_stream_offers_it_too(run: Run, suite: Path) -> None:
    source = pick.name("sources", offers=frozenset({"stream", "hook"}))
    student = pick.name("compressors", accepts="student", params=("source_hook",))
    small = {"iterations": 2, "batch": 16, "width": 8, "warmup": 1, "delivery": "stream"}
    few = {"steps": 4, "batch": 16}
    grid = {
        "offers": pick.values("sources", source, **small),
        "plain": pick.values("compressors", student, **few),
        "asks": pick.values("compressors", student, **few, source_hook=True),
    }
    suite.write_text(HOOKS.replace("[{offers}, {none}]", "[{offers}]").format(**grid))
    found = {r.compressor_params["source_hook"]: r for r in run()}
    assert (found[False].status, found[True].status) == ("ok", "ok"), found[True].reason
    assert found[True].delivery == "stream"
    assert found[True].report["kl_last"] != found[False].report["kl_last"]
