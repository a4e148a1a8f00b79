"""A generator trained in lock-step with a student, through the runner, on a shipped network."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import SuiteError
from tests.run.conftest import Run, assert_same

STREAM = """
suite: tiny
version: 1
dataset: fashion_mnist
grid:
  source:
    - dafl: {delivery: stream, batch: 16, width: 8, latent: 16}
    - gdfq: {delivery: stream, batch: 16, width: 8, latent: 16, warmup: 2}
    - gdfq: {batch: 16, width: 8, latent: 16, images: 40, iterations: 2}
  target: [resnet18_w10]
  compressor: [{kd: {steps: 3, batch: 16}}, rtn]
  student: [mobilenetv2_w035]
  bits: [W8A8]
images: 40
seeds: [0]
test_subset: 100
"""


def test_a_stream_trains_a_student_and_stores_no_image(run: Run, suite: Path, tmp_path: Path) -> None:
    suite.write_text(STREAM)
    found = run()
    kinds = {(r.source_method, "stream" in r.source, r.compressor_method): r for r in found}
    for name, cost in (("dafl", 3), ("gdfq", 5)):  # the first call of gdfq makes two warm-up steps besides
        record = kinds[name, True, "kd"]
        assert record.status == "ok", record.reason
        assert record.setting_label == "mobilenetv2_w035"
        assert record.report["stream"]["iterations"] == cost
        assert record.report["delivery"] == "stream"
        assert (
            record.costs["synthesis"].forward_equivalents > 16 * 2 * cost
        )  # teacher there and back, and the generator
        assert record.metrics["macs"] != kinds["gdfq", False, "rtn"].metrics["macs"]
        refused = kinds[name, True, "rtn"]
        assert (refused.status, refused.reason) == ("not_applicable", "rtn takes no stream of images")
    cached = kinds["gdfq", False, "kd"]
    assert (cached.status, cached.report["delivery"]) == ("ok", "cached")
    assert cached.synth_id != kinds["gdfq", True, "kd"].synth_id
    stored = {path.parent.name for path in (tmp_path / "store").rglob("*.safetensors")}
    assert cached.synth_id in stored
    assert kinds["gdfq", True, "kd"].synth_id not in stored
    assert_same(run("again"), found)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("- gdfq: {delivery: stream", "- noise: {delivery: stream", "noise makes no stream of images"),
        ("delivery: stream, batch: 16, width: 8, latent: 16}", "delivery: live}", "cached, stream"),
    ],
)
def test_a_stream_that_cannot_be_is_named(run: Run, suite: Path, old: str, new: str, words: str) -> None:
    text = STREAM.replace(", batch: 16, width: 8, latent: 16, warmup: 2}", "}") if "noise" in new else STREAM
    assert old in text
    suite.write_text(text.replace(old, new))
    with pytest.raises(SuiteError, match=words):
        run()
