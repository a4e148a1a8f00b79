"""Deleting a method's file breaks no other test: tests find methods through the registry, not by lists of names.

A method's module is imported by its own test only, and no table of three or more methods' names stands in a test that
loads methods.  Tests of records, boards and plans use the names as labels or for a package of their own.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.contracts import kit
from tests.source_text import imports

TESTS = Path(__file__).parents[1]
KINDS = ("sources", "compressors", "policies")
NAMES = {(kind, name) for kind in KINDS for name in kit.installed(kind)}
LABELS = ("board", "dashboard", "browser", "spec", "store", "test_architecture.py")
"""Where names are labels of records, methods of a package made for the test, or texts that are looked at."""


def foreign_imports(text: str, place: str) -> list[str]:
    """Modules of methods, or of their tests, that the test at ``place`` (a path below tests/) imports though they are
    not its subject."""
    modules = {f"methods.{kind}.{name}": f"{kind}/test_{name}.py" for kind, name in NAMES}
    modules |= {f"tests.{kind}.test_{name}": f"{kind}/test_{name}.py" for kind, name in NAMES}
    found = []
    for each in imports(text):
        parts = each.module.split(".")
        own = {modules.get(".".join(parts[:3])), modules.get(".".join(parts[:4]))} - {None}
        if own and place not in own:
            found.append(f"{place}:{each.line} imports {each.module}")
    return found


def tables(text: str, names: Collection[str]) -> Iterator[tuple[int, set[str]]]:
    """Lists, tuples, sets and mappings that hold three or more of ``names``, as items or first in their items."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            continue
        items = node.keys if isinstance(node, ast.Dict) else node.elts
        heads = [item.elts[0] if isinstance(item, ast.Tuple) and item.elts else item for item in items]
        found = {str(head.value) for head in heads if isinstance(head, ast.Constant)} & set(names)
        if len(found) >= 3:
            yield node.lineno, found


def files() -> list[Path]:
    return sorted(TESTS.rglob("*.py"))


def test_a_methods_module_is_imported_by_its_own_test_only() -> None:
    wrong = [
        line
        for file in files()
        for line in foreign_imports(file.read_text(encoding="utf-8"), file.relative_to(TESTS).as_posix())
    ]
    assert wrong == []


def test_no_table_of_methods_in_tests_that_load_methods() -> None:
    names = {name for _, name in NAMES}
    wrong = [
        f"{file.relative_to(TESTS)}:{line}: {sorted(found)}"
        for file in files()
        if not file.relative_to(TESTS).as_posix().startswith(LABELS)
        for line, found in tables(file.read_text(encoding="utf-8"), names)
    ]
    assert wrong == []


@pytest.mark.parametrize("shape", ["import {m}", "from {m} import METHOD", "from {package} import {name}"])
def test_an_import_of_another_method_is_seen(shape: str) -> None:
    for kind, name in NAMES:
        for package, module in ((f"methods.{kind}", name), (f"tests.{kind}", f"test_{name}")):
            text = shape.format(m=f"{package}.{module}", package=package, name=module)
            assert foreign_imports(text, "run/test_x.py")
            assert not foreign_imports(text, f"{kind}/test_{name}.py")
    assert not foreign_imports("from methods.sources._inversion import invert", "run/test_x.py")


@pytest.mark.parametrize(
    "shape", ["x = {}", "x = {{{}}}", "@mark('name', [{}])\ndef f(): ...", "f([({}, 1), ({}, 2), ({}, 3)])"]
)
def test_a_table_of_methods_is_seen(shape: str) -> None:
    one, two, three = (repr(name) for name in ("alpha", "beta", "gamma"))
    several = shape.count("{}") > 1
    text = shape.format(one, two, three) if several else shape.format(f"{one}, {two}, {three}")
    assert list(tables(text, {"alpha", "beta", "gamma"}))
    assert not list(tables(text, {"alpha", "beta"}))
