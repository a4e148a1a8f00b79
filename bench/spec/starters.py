"""What ``bench new`` writes: a method to start from, which is the shortest real one of its kind, and a test of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import SuiteError, nearest
from bench.spec.plugins import ATTRIBUTE, NAME, SINGULAR
from bench.spec.registry import Registry

WORK: Mapping[str, str] = {"sources": "synthesize_batch", "compressors": "compress", "policies": "search"}
"""The function of each kind in which a method does its work."""

PLAIN: Mapping[str, Mapping[str, Any]] = {
    "sources": {"control": "none", "offers": frozenset()},
    "compressors": {"makes_zeros": False},
    "policies": {"control": False, "written": False},
}
"""What an example declares: a control, or one that reads a file, is none to start from."""

TOLD: Mapping[str, object] = {"version": 1, "summary": "say in a line what it does", "paper": "none yet"}
"""Declarations that are the new method's own to make."""

_TEST = '''"""What must hold of {name}: `pytest test_{name}.py`."""

from __future__ import annotations

from pathlib import Path

from bench.run.trial import trial
from bench.spec.plugins import read_plugin

FILE = Path(__file__).with_name("{name}.py")


def test_it_declares_all_that_a_{singular}_must() -> None:
    plugin = read_plugin(FILE)
    assert (plugin.kind, plugin.name) == ("{kind}", "{name}")
    assert "mini" in plugin.method.presets


def test_a_small_run_with_it_gives_an_honest_row(tmp_path: Path) -> None:
    record = trial(FILE, tmp_path)
    assert record.status == "ok", record.reason
    assert not [entry for entry in record.audit if entry.get("denied")]
    assert 0 <= record.metrics["top1"] <= 100
    assert record.provenance["brought"]["{name}"]["by"] == "file {name}.py"
'''


@dataclass(frozen=True)
class Starter:
    """The texts of ``NAME.py`` and ``test_NAME.py``, and the method that they were made from."""

    text: str
    test: str
    example: str


def starter(word: str, name: str) -> Starter:
    """A new method of the kind that ``word`` (source, compressor, policy) says, called ``name``.

    Raises:
        SuiteError: no such kind; no name of a method, or one that is taken.
    """
    kinds = {singular: kind for kind, singular in SINGULAR.items()}
    if word not in kinds:
        raise SuiteError("is no kind of method", got=word, expected=list(kinds), nearest=nearest(word, kinds))
    if not NAME.fullmatch(name):
        raise SuiteError(
            "is no name of a method", got=name, expected="lower-case letters, digits and _, a letter first"
        )
    registry = Registry(kinds[word])
    if name in registry.names():
        raise SuiteError(f"a {word} of this name exists", got=name, hint="Choose another name.")
    example = shortest(registry)
    test = _TEST.format(name=name, singular=word, kind=registry.kind)
    return Starter(renamed(registry.text(example), example, name), test, example)


def shortest(registry: Registry) -> str:
    """The product's own method that does its work in its own file with the fewest lines to read: docstring aside, and
    with the parts of its kind that it builds on.

    Raises:
        SuiteError: there is none.
    """
    wanted, work = PLAIN[registry.kind], WORK[registry.kind]
    lengths: dict[str, int] = {}
    for name in filter(registry.own, registry.names()):
        method = registry.get(name)
        if work in vars(type(method)) and all(getattr(method, key) == value for key, value in wanted.items()):
            lengths[name] = sum(map(_lines, [registry.text(name), *_parts(registry, name)]))
    if not lengths:
        raise SuiteError(f"no {registry.singular} is there to start from", expected=f"one with {work}")
    return min(lengths, key=lambda name: (lengths[name], name))


def _parts(registry: Registry, name: str) -> list[str]:
    """The texts of what ``name`` imports of the parts that its kind shares."""
    modules = {
        node.module
        for node in ast.walk(ast.parse(registry.text(name)))
        if isinstance(node, ast.ImportFrom) and node.module and f".{registry.kind}._" in node.module
    }
    return [registry.text(module.rpartition(".")[2]) for module in sorted(modules)]


def _lines(text: str) -> int:
    return len(text.splitlines()) - len((ast.get_docstring(ast.parse(text)) or "").splitlines())


def renamed(text: str, example: str, name: str) -> str:
    """``text`` as the file of a method called ``name``: its classes renamed, what only ``example`` can say of itself
    (:data:`TOLD`, the docstring) left to be said."""
    tree = ast.parse(text)
    lines = text.splitlines(keepends=True)
    for node in reversed(_own_words(tree)):
        first, last = node.value.lineno - 1, (node.value.end_lineno or node.value.lineno) - 1
        head, tail = lines[first][: node.value.col_offset], lines[last][node.value.end_col_offset :]
        lines[first : last + 1] = [f"{head}{_quoted(TOLD[_target(node)])}{tail}"]
    body = "".join(lines[tree.body[0].end_lineno or 0 :]) if ast.get_docstring(tree) else "".join(lines)
    old, new = _camel(example), _camel(name)
    if re.search(rf"\b{new}\b", body):  # something it imports is called so
        new += "Method"
    for found in (node.name for node in tree.body if isinstance(node, ast.ClassDef)):
        mine = re.sub(f"^{re.escape(old)}", new, found, flags=re.IGNORECASE)
        body = re.sub(rf"\b{found}\b", mine if mine != found else f"{new}{found}", body)
    body = body.replace(f"``{example}``", f"``{name}``")
    what = f"{name}: {TOLD['summary']}, from which paper, and where it departs from it."
    return f'"""{what}\n\nMade from {example}.\n"""\n{body}'


def _own_words(tree: ast.Module) -> list[ast.Assign]:
    """The class of METHOD's assignments of what it says of itself, in the file's order."""
    made = next(node for node in tree.body if isinstance(node, ast.Assign) and _target(node) == ATTRIBUTE).value
    called = made.func.id if isinstance(made, ast.Call) and isinstance(made.func, ast.Name) else ""
    owner = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == called)
    return [node for node in owner.body if isinstance(node, ast.Assign) and _target(node) in TOLD]


def _target(node: ast.Assign) -> str:
    return node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _camel(name: str) -> str:
    return "".join(part.title() for part in name.split("_"))
