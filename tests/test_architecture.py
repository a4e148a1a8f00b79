"""The design's rules 1 and 2, read off the source: who may import whom, and that the engine knows no method by name."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "methods", "dashboard")
KINDS = ("sources", "compressors", "policies")

BASE = {"interfaces", "errors", "runtime", "paths"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "interfaces": {"errors"},
    "paths": set(),
    "runtime": {"errors", "interfaces"},
    "data": BASE,
    "zoo": {"data", *BASE},
    "store": BASE,
    "spec": {"zoo", "data", *BASE},
    "measure": {"zoo", "data", *BASE},
    "run": {"spec", "store", "measure", "zoo", "data", *BASE},
    "board": {"store", "spec", *BASE},
    "cli": {"run", "board", "spec", "store", "measure", "zoo", "data", *BASE},
}
"""Part of bench → the other parts it may import (design, rule 2: cli → run → spec, store, measure → zoo, data)."""

TORCH_FREE = (
    "bench/spec",
    "bench/board",
    *(f"bench/store/{name}.py" for name in ("files", "measured", "meta", "objects", "policies", "records")),
)


@dataclass(frozen=True)
class Import:
    """One imported module, where, and whether it is seen by type checkers only."""

    file: Path
    line: int
    module: str
    typing_only: bool = False

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@lru_cache(maxsize=512)
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports(file: Path) -> Iterator[Import]:
    typing_only = {
        id(inner)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree(file)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports name their package"
            # "from bench import runtime" imports bench.runtime.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield Import(file, node.lineno, name, id(node) in typing_only)


def part_of(file: Path) -> str:
    """The part of bench a file belongs to."""
    return part(file.relative_to(ROOT / "bench").parts[0].removesuffix(".py"))


def part(name: str) -> str:
    """cli.py and its helpers cli_*.py are one part."""
    return "cli" if name.startswith("cli_") else name


def all_imports(*packages: str) -> list[Import]:
    return [found for package in packages for file in sources(package) for found in imports(file)]


def test_parts_of_bench_import_downwards_only() -> None:
    wrong = []
    for found in all_imports("bench"):
        if not found.module.startswith("bench."):
            continue
        here, there = part_of(found.file), part(found.module.split(".")[1])
        if there == "__version__":
            continue
        assert here in ALLOWED, f"{here} is a new part of bench: say in ALLOWED what it may import"
        if there != here and there not in ALLOWED[here]:
            wrong.append(str(found))
    assert wrong == []


def test_bench_reaches_methods_through_the_registry_only() -> None:
    assert [str(f) for f in all_imports("bench", "dashboard") if f.module.split(".")[0] == "methods"] == []


def test_methods_see_interfaces_and_errors_only() -> None:
    allowed = ("bench.interfaces", "bench.errors", "methods")
    wrong = [
        str(found)
        for found in all_imports("methods")
        if found.module.split(".")[0] in PACKAGES and not found.module.startswith(allowed)
    ]
    assert wrong == []


def test_sources_and_compressors_do_not_know_each_other() -> None:
    wrong = []
    for found in all_imports("methods"):
        parts = found.module.split(".")
        here = found.file.relative_to(ROOT / "methods").parts[0]
        if parts[0] == "methods" and here in KINDS and len(parts) > 1 and parts[1] in KINDS and parts[1] != here:
            wrong.append(str(found))
    assert wrong == []


def test_a_method_builds_on_shared_parts_not_on_another_method() -> None:
    wrong = []
    for found in all_imports("methods"):
        parts = found.module.split(".")
        if parts[:1] == ["methods"] and len(parts) > 2 and parts[1] in KINDS and not parts[2].startswith("_"):
            wrong.append(str(found))
    assert wrong == []


def test_the_dashboard_reads_the_board_and_the_records() -> None:
    allowed = ("bench.board", "bench.store.records", "bench.store.measured", "bench.errors", "dashboard")
    wrong = [
        str(found)
        for found in all_imports("dashboard")
        if found.module.split(".")[0] in PACKAGES and not found.module.startswith(allowed)
    ]
    assert wrong == []


def test_no_user_interface_in_bench() -> None:
    assert [str(f) for f in all_imports("bench") if f.module.split(".")[0] in ("streamlit", "plotly")] == []


def test_no_torch_where_nothing_is_computed() -> None:
    wrong = [
        str(found)
        for found in all_imports("bench", "dashboard")
        if found.module.split(".")[0] in ("torch", "torchvision", "timm")
        and not found.typing_only
        and str(found.file.relative_to(ROOT)).startswith((*TORCH_FREE, "dashboard"))
    ]
    assert wrong == []


def test_planning_and_reading_load_no_torch() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for start in TORCH_FREE
        for file in ([ROOT / start] if start.endswith(".py") else sources(start))
        if file.name != "__init__.py"
    ]
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_only_runtime_touches_the_accelerator() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for package in PACKAGES
        for file in sources(package)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.cuda" and file != ROOT / "bench/runtime.py"
    ]
    assert wrong == []


def method_names() -> set[str]:
    files = [file for kind in KINDS for file in (ROOT / "methods" / kind).glob("*.py")]
    return {file.stem for file in files if not file.stem.startswith("_")}


def literals(file: Path) -> Iterator[tuple[int, str]]:
    """Strings of a file with their lines, docstrings and other bare strings aside."""
    bare = {id(node.value) for node in ast.walk(tree(file)) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.lineno, node.value


@pytest.mark.parametrize("package", ["bench", "dashboard"])
def test_no_method_is_known_by_name(package: str) -> None:
    """No comparison, look-up, default or table in the engine or the dashboard holds a method's name.

    What they must know of a method, the method declares: ``control``, ``needs``, ``access``, ``models``.
    """
    names = method_names()
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {text!r}"
        for file in sources(package)
        for line, text in literals(file)
        if text in names
    ]
    assert wrong == []
