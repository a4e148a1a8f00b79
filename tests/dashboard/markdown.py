"""Which calls of Streamlit read Markdown, and whether what they are given is text of ours or went through ``plain``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

READS_MARKDOWN = (
    *("markdown", "caption", "title", "header", "subheader", "info", "warning", "error", "success", "toast", "badge"),
    *("expander", "popover", "tabs", "progress", "metric", "link_button", "toggle", "checkbox", "radio", "selectbox"),
    *("multiselect", "number_input", "text_input", "slider", "button", "download_button", "write", "spinner"),
    *("status", "image", "page_link"),
)
TEXTS = ("help", "caption", "label", "text", "body")
"""Keywords whose values are read as Markdown, too."""


def unescaped(text: str, allowed: frozenset[str] = frozenset()) -> Iterator[tuple[int, str]]:
    """Line and source of every argument read as Markdown that holds more than text of ours and ``plain(...)``.

    Args:
        allowed: names that hold text of ours.
    """
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in READS_MARKDOWN or not _is_streamlit(node.func.value):
            continue
        first = node.args[1:2] if node.func.attr in ("progress", "image") else node.args[:1]
        for given in (*first, *(k.value for k in node.keywords if k.arg in TEXTS)):
            if not _is_ours(given, allowed):
                yield given.lineno, ast.unparse(given)


def _is_streamlit(node: ast.expr) -> bool:
    """``st.caption``, ``column.metric``, ``columns[0].metric``; neither ``logging`` nor a frame's methods."""
    found = node.value if isinstance(node, ast.Subscript) else node
    return isinstance(found, ast.Name) and found.id in ("st", "column", "columns", "place", "left", "right", "middle")


def _is_ours(node: ast.expr, allowed: frozenset[str]) -> bool:
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.JoinedStr):
        return all(_is_ours(part, allowed) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _is_ours(node.value, allowed)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _is_ours(node.left, allowed) and _is_ours(node.right, allowed)
    if isinstance(node, ast.IfExp):
        return _is_ours(node.body, allowed) and _is_ours(node.orelse, allowed)
    if isinstance(node, ast.BoolOp):
        return all(_is_ours(value, allowed) for value in node.values)
    if isinstance(node, ast.Name):
        return node.id.isupper() or node.id in allowed
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "plain"
