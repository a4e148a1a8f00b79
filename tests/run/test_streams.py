"""A generator trained in lock-step with a student, through the runner, on a shipped network."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import SuiteError
from tests import pick
from tests.run.conftest import Run, assert_same

STREAM = """
suite: tiny
version: 1
dataset: fashion_mnist
grid:
  source: [{sources}]
  target: [resnet18_w10]
  compressor: [{student}, {quantiser}]
  student: [mobilenetv2_w035]
  bits: [W8A8]
images: 40
seeds: [0]
test_subset: 100
"""
SMALL = {"batch": 16, "width": 8, "latent": 16, "warmup": 0}


@pytest.fixture
def methods(suite: Path) -> tuple[list[str], str, str]:
    """The suite's methods: two sources with a stream, a trainer of students, a quantiser that takes no stream."""
    sources = list(pick.methods("sources", offers="stream", params=("iterations", *SMALL)))
    if not sources:
        pytest.skip("no installed source has a stream")
    student = pick.name("compressors", accepts="student", deliveries="stream")
    quantiser = pick.name("compressors", accepts="bits", deliveries=pick.Exactly(frozenset({"cached"})))
    return [sources[0], sources[-1]], student, quantiser


def text(sources: list[str], student: str, quantiser: str) -> str:
    trainer = pick.values("compressors", student, steps=3, batch=16)
    return STREAM.format(sources=", ".join(sources), student=trainer, quantiser=quantiser)


def test_a_stream_trains_a_student_and_stores_no_image(
    run: Run, suite: Path, tmp_path: Path, methods: tuple[list[str], str, str]
) -> None:
    (one, other), student, quantiser = methods
    rows = [
        pick.values("sources", one, **SMALL, delivery="stream"),
        pick.values("sources", other, **SMALL | {"warmup": 2}, delivery="stream"),
        pick.values("sources", other, **SMALL, images=40, iterations=2),
    ]
    suite.write_text(text(rows, student, quantiser))
    found = run()
    kinds = {("stream" in r.source, r.source_params["warmup"], r.compressor_method): r for r in found}
    cached = kinds[False, 0, student]
    for warmup, name in ((0, one), (2, other)):  # the first call makes the warm-up's steps besides
        record, steps = kinds[True, warmup, student], 3 + warmup
        assert record.status == "ok", record.reason
        assert (record.source_method, record.setting_label) == (name, "mobilenetv2_w035")
        assert record.report["stream"]["iterations"] == steps
        assert record.report["delivery"] == "stream"
        # teacher there and back, and the generator
        assert record.costs["synthesis"].forward_equivalents > 16 * 2 * steps
        assert record.metrics["macs"] != kinds[False, 0, quantiser].metrics["macs"]
        refused = kinds[True, warmup, quantiser]
        assert (refused.status, refused.reason) == ("not_applicable", f"{quantiser} takes no stream of images")
        assert cached.synth_id != record.synth_id
        stored = {path.parent.name for path in (tmp_path / "store").rglob("*.safetensors")}
        assert cached.synth_id in stored
        assert record.synth_id not in stored
    assert (cached.status, cached.report["delivery"]) == ("ok", "cached")
    assert_same(run("again"), found)


@pytest.mark.parametrize("case", ["no stream", "no such delivery"])
def test_a_stream_that_cannot_be_is_named(
    run: Run, suite: Path, case: str, methods: tuple[list[str], str, str]
) -> None:
    (one, _), student, quantiser = methods
    wrong, words = {
        "no stream": (pick.values("sources", pick.LOWER, delivery="stream"), "makes no stream of images"),
        "no such delivery": (pick.values("sources", one, delivery="live"), "cached, stream"),
    }[case]
    suite.write_text(text([wrong], student, quantiser))
    with pytest.raises(SuiteError, match=words):
        run()
