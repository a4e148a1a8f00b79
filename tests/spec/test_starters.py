"""``bench new``: what it writes is made from a real method, and its own test passes."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.errors import SuiteError
from bench.spec.plugins import SINGULAR
from bench.spec.registry import Registry
from bench.spec.starters import PLAIN, WORK, renamed, shortest, starter
from dashboard.cli import app

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", SINGULAR)
def test_the_example_is_the_shortest_that_works_in_its_own_file(kind: str) -> None:
    registry = Registry(kind)
    name = shortest(registry)
    method = registry.get(name)
    assert WORK[kind] in vars(type(method))
    assert all(getattr(method, key) == value for key, value in PLAIN[kind].items())
    made = starter(SINGULAR[kind], "one_of_mine")
    old, new = ast.parse(registry.text(name)), ast.parse(made.text)
    assert [type(node) for node in new.body] == [type(node) for node in old.body]
    classes = [node.name for node in new.body if isinstance(node, ast.ClassDef)]
    assert classes
    assert all(said.startswith("OneOfMine") for said in classes)
    assert "version = 1\n" in made.text


def test_a_name_that_the_file_imports_makes_no_class_of_that_name() -> None:
    text = (
        '"""Old."""\n\nfrom x import Tier\n\n\nclass Old:\n    version = 3\n    access: Tier = 1\n\n\nMETHOD = Old()\n'
    )
    new = renamed(text, "old", "tier")
    assert "class TierMethod:\n    version = 1\n    access: Tier = 1\n" in new
    assert new.endswith("METHOD = TierMethod()\n")


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [("sauce", "mine", "did you mean: source"), ("source", "My-Own", "lower-case letters"), ("source", "", "no name")],
)
def test_what_cannot_be_made_says_so(kind: str, name: str, said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        starter(kind, name)


def test_a_name_is_not_taken_twice(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="exists"):
        starter("compressor", shortest(Registry("compressors")))
    (tmp_path / "test_mine.py").write_text("mine")
    found = CliRunner().invoke(app, ["new", "source", "mine", "--dir", str(tmp_path)])
    assert "the file exists" in str(found.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]


@pytest.mark.slow
def test_the_tests_it_writes_pass(tmp_path: Path) -> None:
    for word in SINGULAR.values():
        made = CliRunner().invoke(app, ["new", word, f"my_{word}", "--dir", str(tmp_path)])
        assert made.exit_code == 0, made.output
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]
    assert "6 passed" in found.stdout
