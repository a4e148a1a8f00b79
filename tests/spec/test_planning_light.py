"""Planning needs no torch: what a plan reads of methods and networks stands in light files and manifests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = "{'torch', 'timm', 'torchvision', 'pandas', 'scipy', 'sklearn', 'mlflow'} & sys.modules.keys()"
DATA = "bench.data still imports torch for its constants and digests"

CATALOGUE = """
import sys
from bench.interfaces import DatasetSpec
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.plan import make_plan
from bench.spec.suite import load_suite, suite_names

class WithoutData(ShippedCatalogue):
    def dataset(self, name):
        return DatasetSpec(name, 10, (1, 32, 32), (0.219,), (0.332,))
    def test_digest(self, dataset, subset):
        return "t" * 64
    def train_digest(self, dataset):
        return "u" * 64
"""
EVERY_SUITE = "for name in suite_names():\n    assert make_plan(load_suite(name), catalogue={}()).cells\n"
LIBRARY = """
grid = {"grid.target": ["timm:mobilenetv3_small_050"], "grid.student": ["timm:resnet18"], "claims": []}
plan = make_plan(load_suite("kd", grid), catalogue=WithoutData())
assert {cell.target for cell in plan.cells} == {"timm:mobilenetv3_small_050"}
assert len({cell.target_digest for cell in plan.cells}) == 1
print(plan.cells[0].cell_id)
"""


def run(code: str, cache: Path) -> tuple[str, str]:
    """What ``code`` prints in a fresh interpreter, and which heavy packages it loaded."""
    code = f"{code}\nprint('loaded', *sorted({HEAVY}))"
    env = {**os.environ, "BENCH_DATA": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    printed, _, heavy = done.stdout.rpartition("loaded")
    return printed.strip(), heavy.strip()


@pytest.mark.parametrize(
    "catalogue",
    ["WithoutData", pytest.param("ShippedCatalogue", marks=pytest.mark.xfail(strict=True, reason=DATA))],
)
def test_every_shipped_suite_is_planned_without_torch(catalogue: str, tmp_path: Path) -> None:
    assert run(CATALOGUE + EVERY_SUITE.format(catalogue), tmp_path) == ("", "")


def test_a_librarys_network_is_planned_without_it_once_it_was_seen(tmp_path: Path) -> None:
    first, heavy = run(CATALOGUE + LIBRARY, tmp_path)
    assert "timm" in heavy
    assert run(CATALOGUE + LIBRARY, tmp_path) == (first, "")


@pytest.mark.parametrize(
    "words",
    [
        "ls sources",
        "ls compressors",
        "ls targets",
        "ls suites",
        pytest.param("ls datasets", marks=pytest.mark.xfail(strict=True, reason=DATA)),
        pytest.param("check ptq_w4a4", marks=pytest.mark.xfail(strict=True, reason=DATA)),
        pytest.param("plan ptq_w4a4", marks=pytest.mark.xfail(strict=True, reason=DATA)),
    ],
)
def test_the_commands_that_inform_load_nothing_heavy(words: str, tmp_path: Path) -> None:
    code = f"import sys\nfrom bench.cli import app\napp({words.split()!r}, standalone_mode=False)\nprint('done')"
    printed, heavy = run(code, tmp_path)
    assert printed.endswith("done")
    assert heavy == ""
