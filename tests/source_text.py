"""What a source text imports and which names it holds, read off its syntax tree, for the architecture test.

Comments and docstrings are prose: they may name anything as an example.  All else counts: strings (parts of longer
ones, of f-strings, and those put together from constants), keys, identifiers, attributes, keywords, imports.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

HIDDEN = "?"
"""A module that the text does not show."""

_RUNS_TEXT = frozenset({"exec", "eval", "compile"})
_TAKES_A_MODULE = frozenset({"import_module", "find_spec", "__import__", "run_module", "resolve_name", "files"})
_CLOSED = (
    ast.Constant, ast.JoinedStr, ast.FormattedValue, ast.BinOp, ast.Add, ast.Mult, ast.Mod, ast.Call, ast.Attribute,
    ast.Subscript, ast.Slice, ast.UnaryOp, ast.USub, ast.List, ast.Tuple, ast.Load,
)  # fmt: skip
"""Of what an expression without variables is made."""


@dataclass(frozen=True)
class Import:
    """An imported module, by statement or by a string; ``typing_only``: seen by type checkers only."""

    line: int
    module: str
    typing_only: bool = False


def imports(text: str) -> list[Import]:
    """Everything a text imports, at any depth, by statement or by a call that is given the module's name as text;
    :data:`HIDDEN` where that name is not shown."""
    tree = ast.parse(text)
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in node.body
        for inner in ast.walk(part)
    }
    found = []
    for node in ast.walk(tree):
        for module in _modules(node):
            found.append(Import(node.lineno, module, id(node) in typing_only))  # type: ignore[attr-defined]
    return found


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        start = "." * node.level + (node.module or "")
        # "from bench import runtime" imports bench.runtime
        return [f"{start}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call):
        bare = isinstance(node.func, ast.Name)
        name = getattr(node.func, "id" if bare else "attr", "")
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if (bare and name in _RUNS_TEXT) or name == "entry_points":
            return [HIDDEN]
        if name in _TAKES_A_MODULE and given:
            return [_shown(given[0]) or HIDDEN]
    return []


def _shown(node: ast.expr) -> str:
    """The module a call names, or the package that an f-string begins with."""
    if isinstance(node, ast.JoinedStr) and node.values and (start := constant(node.values[0])):
        return start.rstrip(".")
    return constant(node) or ""


def is_machinery(module: str) -> bool:
    """Whether a module imports what a text names; data and metadata of packages are no code."""
    return module.split(".")[0] in ("importlib", "runpy", "pkgutil", "imp") and not module.startswith(
        ("importlib.resources", "importlib.metadata")
    )


def paths_into(text: str, packages: Collection[str]) -> list[tuple[int, str]]:
    """Strings that name a package or something in it: ``methods``, ``methods.quant:f``, ``methods/quant``."""
    inside = re.compile(rf"(?:{'|'.join(packages)})(?:\Z|[.:/]\w\S*\Z)")
    return [(line, said) for line, said in strings(text) if inside.match(said)]


def constant(node: ast.AST) -> str | None:
    """The text of an expression that holds no variable: ``"a" + "b"``, ``f"{'a'}b"``, ``"".join(["a", "b"])``."""
    if isinstance(node, ast.Constant):
        return node.value.decode("latin-1") if isinstance(node.value, bytes) else _text(node.value)
    if not isinstance(node, ast.expr) or not all(isinstance(inner, _CLOSED) for inner in ast.walk(node)):
        return None
    try:
        # it has no name to look up and no builtins: constants, + * %, slices and methods of strings
        return _text(eval(compile(ast.Expression(node), "constant", "eval"), {"__builtins__": {}}))  # noqa: S307
    except Exception:  # noqa: BLE001 - whatever it is then, it is no text
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def strings(text: str) -> Iterator[tuple[int, str]]:
    """The strings of a text with their lines; docstrings and other bare ones aside."""
    tree = ast.parse(text)
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) not in bare and (said := constant(node)):
            yield node.lineno, said  # type: ignore[attr-defined]


def identifiers(text: str) -> Iterator[tuple[int, str]]:
    """Every identifier: variables, attributes, functions, classes, arguments, keywords, imports, captures."""
    line = 0
    for node in ast.walk(ast.parse(text)):
        line = getattr(node, "lineno", line)
        if isinstance(node, ast.Constant):
            continue
        for _, value in ast.iter_fields(node):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str):
                    yield line, item


def named(text: str, names: Collection[str], words: Collection[str] = ()) -> list[tuple[int, str]]:
    """Where a Python text holds one of ``names`` in code: line, and the string or identifier.

    Case and the separators within a name do not matter, nor that it is part of a longer string or identifier (as a
    word of its own: ``kw_images`` and ``KwImages`` hold kw, ``kwargs`` does not).  ``words`` are those names that are
    ordinary words, of which prose and variables are made; they count where they stand for the method: as a whole
    string, beside ``=``, ``|``, ``+``, ``/``, ``:``, ``(`` or a quotation mark, or as a key of ``dict(...)``.
    """
    found = []
    proper = _pattern(set(names) - set(words))
    plain = _pattern(words).pattern
    alone = re.compile(rf"""{plain}\Z|.*?(?:[=|+/:"']{plain}|{plain}[=|+/:("'])""", re.DOTALL) if words else None
    for line, said in strings(text):
        if proper.search(said) or (alone and alone.match(said)):
            found.append((line, said))
    found += [(line, said) for line, said in identifiers(text) if proper.search(said)]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict":
            found += [(node.lineno, k.arg) for k in node.keywords if k.arg and words and re.fullmatch(plain, k.arg)]
    return found


def _pattern(names: Collection[str]) -> re.Pattern[str]:
    """Any of the names as a word, also of CamelCase; matches nothing when there are none."""
    forms = sorted((r"[\W_]?".join(map(re.escape, name.split("_"))) for name in names), key=len, reverse=True)
    start = r"(?:(?<![A-Za-z0-9])|(?<=[a-z0-9])(?=[A-Z]))"
    end = r"(?:(?![A-Za-z])|(?<=[a-z0-9])(?=[A-Z])|(?=[A-Z][a-z]))"
    return re.compile(f"{start}(?i:{'|'.join(forms)}){end}" if forms else r"(?!)")
