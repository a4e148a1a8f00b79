"""What several pages begin with: choosing a suite and preset, and saying what is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard.described import described
from dashboard.filters import choice
from dashboard.load import snapshot
from dashboard.text import plain


class Scope(NamedTuple):
    """The suite, preset and data set a page speaks of, and their rows of the board."""

    suite: str
    preset: str
    dataset: str
    table: pd.DataFrame


def heading(title: str, says: str) -> None:
    """The page's title and, for who sees it first, what it shows."""
    st.title(plain(title))
    st.caption(plain(says))


def chart(figure: go.Figure, key: str, name: str = "", **options: Any) -> Any:
    """Draw a figure as wide as its place, with one button: to download it as SVG; a screen reader says what it shows.

    Args:
        name: of the file; the key unless given.
        options: as ``st.plotly_chart`` takes them.
    """
    config = {
        "displaylogo": False,
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": {"format": "svg", "filename": (name or key).replace("/", "-")},
    }
    said = {"alt": described(figure)} | options
    return st.plotly_chart(figure, width="stretch", key=key, config=config, **said)


def download(label: str, content: str | bytes, name: str, media_type: str, key: str | None = None) -> None:
    """A button that hands ``content`` over as the file ``name``.

    The page is not run again by the click: a run that another click cuts short forgets the files of the buttons it did
    not reach, and who clicks one of those then gets an error under a meaningless name.
    """
    st.download_button(plain(label), content, name, media_type, key=key, on_click="ignore")


def problems() -> None:
    """Name the files that could not be read."""
    found = snapshot().problems
    if found:
        with st.expander(plain(f"{len(found)} record files could not be read"), icon="⚠️"):
            for problem in found[:50]:
                st.text(problem.says)


def scope(
    only: pd.Series | None = None, help_empty: str = "", first: Callable[[Sequence[str]], str] | None = None
) -> Scope | None:
    """Let the reader choose suite, preset and data set; None, with a sentence, when nothing is there.

    Args:
        only: mask over the board's rows that the page can show.
        help_empty: the sentence when there is none.
        first: picks the suite shown at first; the one with most records unless given.
    """
    table = snapshot().table
    table = table if only is None else table[only]
    if table.empty:
        st.info(
            help_empty
            or "No records yet. `bench run suites/quickstart.yaml --seeds 1` makes the first ones in four minutes."
        )
        return None
    left, middle, right = st.columns([3, 1, 2])
    suites = list(dict.fromkeys(table["suite"]))
    with left:
        suite = choice("Suite", "suite", suites, default=(first or _first)(suites))
    table = table[table["suite"] == suite]
    with middle:
        preset = choice("Preset", "preset", list(dict.fromkeys(table["preset"])))
    table = table[table["preset"] == preset]
    with right:
        dataset = choice("Data set", "dataset", list(dict.fromkeys(table["dataset"])))
    return Scope(suite, preset, dataset, table[table["dataset"] == dataset])


def _first(suites: Sequence[str]) -> str:
    """The suite with most records says most; of several, the last by name."""
    cells = snapshot().cells
    counts = cells[cells["status"] == "ok"]["suite"].value_counts()
    return max(suites, key=lambda name: (counts.get(name, 0), name))


def telling_target(table: pd.DataFrame) -> str | None:
    """The target on which the methods differ most, which is shown at first."""
    top1 = table[table["control"] == "none"].groupby("target")["top1_mean"]
    spans = (top1.max() - top1.min()).dropna()
    return str(spans.astype(float).idxmax()) if len(spans) else None
