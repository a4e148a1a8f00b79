"""Facts of a record as tables, whatever keys they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard.tables import Column, Html, html_table
from dashboard.text import BLANK, html_text, missing

LONG = 60
"""Items of a list that are shown; more are counted."""


def facts(found: Mapping[str, Any]) -> None:
    """A table of names and values; long values wrap."""
    if found:
        rows: list[Sequence[str | Html]] = [
            [str(name).replace("_", " "), _wrapped(plain(value))] for name, value in found.items()
        ]
        st.html(html_table((Column(""), Column("")), rows))


def _wrapped(text: str) -> Html:
    return Html(f'<div style="white-space:normal;overflow-wrap:anywhere">{html_text(text)}</div>')


def is_listing(value: Any) -> bool:
    """Whether it is a list of facts, for :func:`listing`."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def listing(items: Sequence[Mapping[str, Any]]) -> str:
    """A table with a column for every key that occurs; those that hold numbers are right-aligned."""
    keys = list(dict.fromkeys(key for item in items for key in item))
    leading = [key for key in keys if any(isinstance(item.get(key), str) for item in items)]
    ordered = [*leading, *(key for key in keys if key not in leading)]
    columns = [Column(key.replace("_", " "), key not in leading) for key in ordered]
    rows: list[Sequence[str | Html]] = [[plain(item.get(key)) for key in ordered] for item in items]
    return html_table(columns, rows)


def plain(value: Any) -> str:
    """A value of a record in words: numbers to four digits, yes and no, lists with commas."""
    if missing(value) or value == "":
        return BLANK
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        more = f", … {len(value) - LONG:,} more" if len(value) > LONG else ""
        return ", ".join(map(plain, value[:LONG])) + more or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or "none"
    return str(value)
