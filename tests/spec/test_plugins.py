"""Methods in files: told apart by what they declare, loaded as they were read, part of every identity they touch."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from typer.testing import CliRunner

from bench.board.index.cells import repro_command
from bench.board.index.rows import make_rows
from bench.board.index.versions import FILES
from bench.errors import SuiteError
from bench.run import session
from bench.run.session import Options
from bench.spec.plan import Plan
from bench.spec.plugins import KEY, SINGULAR, read_plugin, read_plugins
from bench.spec.registry import Registry
from bench.spec.resolved import BROUGHT
from bench.spec.starters import starter
from bench.store.records import ResultRecord
from dashboard.cli import app
from tests import pick

SUITE = """
    suite: brought
    version: 1
    dataset: fashion_mnist
    grid:
      source: [SOURCE]
      target: [resnet18_w10]
      compressor: [COMPRESSOR]
      bits: [W8A8]
    images: 16
    seeds: [0]
    test_subset: 100
"""


def written(folder: Path, kind: str, name: str, more: str = "") -> Path:
    """A method's file as ``bench new`` makes it."""
    file = folder / f"{name}.py"
    file.write_text(starter(kind, name).text + more)
    return file


@pytest.mark.parametrize("kind", SINGULAR)
def test_the_kind_is_what_the_method_declares(kind: str, tmp_path: Path) -> None:
    file = written(tmp_path, SINGULAR[kind], "mine")
    plugin = read_plugin(file)
    assert (plugin.kind, plugin.name) == (kind, "mine")
    assert plugin.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    registry = Registry(kind, plugins=(plugin,))
    assert registry.get("mine") is plugin.method
    assert (registry.own("mine"), registry.brought("mine"), registry.code("mine")) == (
        False,
        "file mine.py",
        plugin.digest,
    )
    own = next(name for name in registry.names() if registry.own(name))
    assert (registry.brought(own), registry.code(own)) == ("", None)
    others = [Registry(other, plugins=(plugin,)) for other in SINGULAR if other != kind]
    assert not any("mine" in other.names() for other in others)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent.py", None, "cannot be read"),
        ("notes.txt", "", "no name of a method's file"),
        ("My-Source.py", "", "no name of a method's file"),
        ("broken.py", "x = 1\ndef f(:\n", "broken.py:2: the file cannot be loaded"),
        ("breaks.py", "x = 1\n\ny = x / 0\n", "breaks.py:3: the file cannot be loaded"),
        ("needs.py", "import no_such_module_here\n", "needs.py:1: the file cannot be loaded"),
        ("script.py", "import sys\nsys.exit(0)\n", "script.py:2: the file cannot be loaded"),
        ("bytes.py", "x = '\0'\n", "cannot be loaded"),
        ("empty.py", "Method = 3\n", "exposes no method"),
        ("other.py", "METHOD = object()\n", "does not declare all it must"),
        ("large.py", "#" * ((1 << 20) + 1), "no method"),
    ],
)
def test_what_is_no_method_says_so(name: str, text: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    before = set(sys.modules)
    with pytest.raises(SuiteError) as caught:
        read_plugin(file)
    assert said in str(caught.value)
    assert "--plugin" in str(caught.value)
    assert not [known for known in set(sys.modules) - before if known.startswith("plugin_") and "loaded" in said]


def test_the_nearest_kind_says_what_is_missing(tmp_path: Path) -> None:
    file = written(tmp_path, "compressor", "mine")
    file.write_text(file.read_text().replace("    def compress(", "    def compres("))
    with pytest.raises(SuiteError) as caught:
        read_plugin(file)
    for words in ("as a compressor", "lacks compress", "bench.interfaces.Compressor", "bench new compressor"):
        assert words in str(caught.value)


def test_a_parameter_of_a_taken_name_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, "source", "mine")
    file.write_text(file.read_text().replace("    batch: int", f"    {KEY}: int = 1\n    batch: int", 1))
    with pytest.raises(SuiteError, match="a name that is taken"):
        read_plugin(file)


def test_names_clash_within_a_kind_only(tmp_path: Path) -> None:
    for place in ("one", "two", "three"):
        (tmp_path / place).mkdir()
    first = written(tmp_path / "one", "source", "mine")
    second = written(tmp_path / "two", "source", "mine", "# another\n")
    third = written(tmp_path / "three", "compressor", "mine")
    assert len(read_plugins([first, first])) == 1
    assert {plugin.kind for plugin in read_plugins([first, third])} == {"sources", "compressors"}
    with pytest.raises(SuiteError) as caught:
        read_plugins([first, second])
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)
    taken = tmp_path / f"{pick.LOWER}.py"
    taken.write_bytes(first.read_bytes())
    with pytest.raises(SuiteError, match="two sources of one name"):
        Registry("sources", plugins=read_plugins([taken])).names()


def test_every_process_loads_the_bytes_that_were_read_and_workers_run_none_of_them(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    note = f"from pathlib import Path\nwith Path({str(ran)!r}).open('a') as stream:\n    stream.write('x')\n"
    file = written(tmp_path, "source", "mine", note)
    plugin = read_plugin(file)
    assert ran.read_text() == "x"
    there = pickle.loads(pickle.dumps(plugin))
    file.write_text("raise SystemExit\n")
    registry = Registry("sources", plugins=(there,))
    assert "mine" in registry.names()
    assert not registry.own("mine")
    module = sys.modules.pop(type(plugin.method).__module__)
    assert ran.read_text() == "x"
    assert registry.get("mine").summary == plugin.method.summary
    assert ran.read_text() == "xx"
    sys.modules[module.__name__] = module


def planned(folder: Path, source: str, compressor: str, *files: Path, asks: str = "bits: [W8A8]") -> Plan:
    suite = folder / "brought.yaml"
    text = dedent(SUITE).replace("SOURCE", source).replace("COMPRESSOR", compressor)
    suite.write_text(text.replace("bits: [W8A8]", asks))
    return session.plan_of(Options(str(suite), plugins=files))


def test_a_changed_file_is_another_method_in_every_identity(tmp_path: Path) -> None:
    pick.need_small_runs()
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    old, new = (written(tmp_path / place, "source", "mine", f"# {place}\n") for place in ("a", "b"))
    round_old, round_new = (written(tmp_path / place, "compressor", "own", f"# {place}\n") for place in ("a", "b"))
    base = planned(tmp_path, "mine", "own", old, round_old)
    moved = tmp_path / "mine.py"
    moved.write_bytes(old.read_bytes())
    same = planned(tmp_path, "mine", "own", moved, round_old)
    assert (same.cells[0].cell_id, same.cells[0].row_id) == (base.cells[0].cell_id, base.cells[0].row_id)
    source = planned(tmp_path, "mine", "own", new, round_old)
    compressor = planned(tmp_path, "mine", "own", old, round_new)
    assert source.cells[0].synth_id != base.cells[0].synth_id == compressor.cells[0].synth_id
    cells = [plan.cells[0] for plan in (base, source, compressor)]
    assert len({cell.cell_id for cell in cells}) == len({cell.row_id for cell in cells}) == 3
    assert {plugin.name for plugin in base.plugins} == {"mine", "own"}
    pruner = pick.name("compressors", accepts=pick.Exactly(frozenset({"sparsity"})), makes_zeros=False)
    steps, asks = f"{{steps: [{pruner}, own]}}", "bits: [W8A8]\n  sparsity: [0.5]"
    chains = [planned(tmp_path, pick.LOWER, steps, file, asks=asks) for file in (round_old, round_new)]
    assert chains[0].cells[0].cell_id != chains[1].cells[0].cell_id


def test_lists_and_plans_take_files(tmp_path: Path) -> None:
    pick.need_small_runs()
    file = written(tmp_path, "source", "mine")
    listed = CliRunner().invoke(app, ["ls", "sources", "--json", "--plugin", str(file)])
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert rows["mine"]["brought by"] == "file mine.py"
    assert rows[pick.LOWER]["brought by"] == ""
    suite = tmp_path / "brought.yaml"
    suite.write_text(dedent(SUITE).replace("SOURCE", "mine").replace("COMPRESSOR", pick.ROUND))
    words = ["plan", str(suite), "--json", "--store", str(tmp_path / "store"), "--plugin", str(file)]
    plan = json.loads(CliRunner().invoke(app, words).stdout)
    params = plan["synths"][0]["source"]["params"]
    assert params[KEY] == read_plugin(file).digest
    without = CliRunner().invoke(app, ["check", str(suite)])
    assert "--plugin FILE" in str(without.exception)


def test_rows_of_another_content_are_stale() -> None:
    record = ResultRecord.model_validate(
        {
            **dict.fromkeys(("cell_id", "row_id", "job_id"), "0" * 16),
            **{"synth_id": None, "suite": "s", "suite_version": 1, "dataset": "fashion_mnist", "source": "mine"},
            **{"source_method": "mine", "delivery": "cached", "model": "", "target": "t", "compressor": "c"},
            **{"compressor_method": "c", "setting": {}, "setting_label": "", "variant": "", "n": 1, "seed": 0},
            **{"preset": "mini", "control": "none", "membership": "none", "status": "ok"},
            "source_params": {KEY: "abc"},
            "provenance": {BROUGHT: {"mine": {"by": "file mine.py", "digest": "abc"}}},
        }
    )
    for digest, stale in (("abc", False), ("def", True)):
        (row,) = make_rows([record], versions={(FILES, "sources/mine"): digest})
        assert row.stale is stale
    (row,) = make_rows([record], versions={})
    assert not row.stale
    assert "--plugin mine.py" in repro_command(record)
