"""Planning needs no torch: what a plan reads of methods and networks stands in light files and manifests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bench.spec.suite import suite_names
from tests import pick

HEAVY = "{'torch', 'timm', 'torchvision', 'pandas', 'scipy', 'sklearn', 'mlflow'} & sys.modules.keys()"

COMPLETE = [name for name in suite_names() if pick.complete(name)]
"""Suites all of whose methods are installed, and that need no data set of the user's."""

PLANNING = """
import sys
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.plan import make_plan
from bench.spec.suite import load_suite
"""
EVERY_SUITE = "for name in {}:\n    assert make_plan(load_suite(name), catalogue=ShippedCatalogue()).cells\n"
SUITE = """
suite: library
version: 1
dataset: "imagefolder:{root}@160"
grid: {{source: [noise], target: ["timm:test_efficientnet"], compressor: [kd], student: ["timm:test_resnet"]}}
images: 1000
test_subset: 1000
seeds: [0]
"""
LIBRARY = """
plan = make_plan(load_suite({suite!r}), catalogue=ShippedCatalogue())
assert {{cell.target for cell in plan.cells}} == {{"timm:test_efficientnet"}}
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


def test_every_shipped_suite_is_planned_without_torch(tmp_path: Path) -> None:
    assert run(PLANNING + EVERY_SUITE.format(COMPLETE), tmp_path) == ("", "")


@pick.needs("kd")
def test_a_librarys_network_is_planned_without_it_once_it_was_seen(tmp_path: Path) -> None:
    for k in range(1000):
        for split in ("train", "test"):
            folder = tmp_path / "images" / split / f"{k:03d}"
            folder.mkdir(parents=True)
            Image.new("L", (1, 1), k % 256).save(folder / "a.png")
    suite = tmp_path / "library.yaml"
    suite.write_text(SUITE.format(root=tmp_path / "images"))
    code = PLANNING + LIBRARY.format(suite=str(suite))
    first, heavy = run(code, tmp_path)
    assert "timm" in heavy
    assert run(code, tmp_path) == (first, "")


@pytest.mark.parametrize(
    "words",
    [
        "ls sources",
        "ls compressors",
        "ls targets",
        "ls suites",
        "ls datasets",
        *(f"{command} {name}" for name in COMPLETE[-1:] for command in ("check", "plan")),
    ],
)
def test_the_commands_that_inform_load_nothing_heavy(words: str, tmp_path: Path) -> None:
    code = f"import sys\nfrom bench.cli.app import app\napp({words.split()!r}, standalone_mode=False)\nprint('done')"
    printed, heavy = run(code, tmp_path)
    assert printed.endswith("done")
    assert heavy == ""
