"""What a source offers a training on its images, through the runner."""

from __future__ import annotations

from pathlib import Path

from tests.run.conftest import Run

HOOKS = """
suite: tiny
version: 1
dataset: fashion_mnist
grid:
  source: [{hast: {iterations: 2, batch: 16}}, noise]
  target: [resnet18_w10]
  compressor: [{kd: {steps: 3, batch: 16}}, {kd: {steps: 3, batch: 16, source_hook: true}}]
  student: [mobilenetv2_w035]
images: 16
seeds: [0]
test_subset: 100
"""


def test_a_source_s_own_extra_is_used_where_it_is_asked_for(run: Run, suite: Path) -> None:
    suite.write_text(HOOKS)
    found = {(r.source_method, r.compressor_params["source_hook"]): r for r in run()}
    plain, promoted = found["hast", False], found["hast", True]
    assert (plain.status, promoted.status) == ("ok", "ok"), promoted.reason
    # three passes of each image to find the promoted copy, then three of both
    assert promoted.costs["compress"].forward_equivalents == 3 * plain.costs["compress"].forward_equivalents
    assert promoted.report["kl_last"] != plain.report["kl_last"]
    assert found["noise", False].status == "ok"
    refused = found["noise", True]
    assert refused.status == "not_applicable"
    assert "offers no hook" in str(refused.reason)
