"""Links between the pages: an address is a page and choices, and a row of the board leads to one of its cells."""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from dashboard.tables import Html
from dashboard.text import html_text, missing

ROW = [
    "suite",
    "dataset",
    "source",
    "model",
    "target",
    "compressor",
    "policy",
    "setting_label",
    "variant",
    "n",
    "preset",
]
CELL_PAGE = "cell"
LEADERBOARD_PAGE = "leaderboard"
_LINK = "color:inherit;text-decoration:underline;text-decoration-thickness:1px;text-underline-offset:.2em"


def address(page: str, **choices: str | list[str]) -> str:
    """The address of a page with choices, relative to any other page."""
    query = urlencode({key: value for key, value in choices.items() if value}, doseq=True)
    return f"./{page}?{query}"


def link(text: str, page: str, **choices: str | list[str]) -> Html:
    """A plain link that the keyboard reaches."""
    place = html_text(address(page, **choices))
    return Html(f'<a href="{place}" target="_self" style="{_LINK}">{html_text(text)}</a>')


def cell_link(text: str, suite: object, cell_id: object) -> Html:
    """A link to a cell's page; the bare text where there is no cell."""
    if missing(cell_id):
        return Html(html_text(text))
    return link(text, CELL_PAGE, suite=str(suite), cell=str(cell_id))


def open_cell(suite: str, cell_id: str) -> NoReturn:
    """Go to a cell's page."""
    page = st.Page(_registered_elsewhere, title="Cell", url_path=CELL_PAGE)
    st.switch_page(page, query_params={"suite": suite, "cell": cell_id})


def _registered_elsewhere() -> None:
    """Stands for the page of this address that dashboard/app.py made: streamlit finds a page by its address."""


def with_cells(table: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The board's rows with ``cell_id``: a measured record before others, the newest suite, the lowest seed."""
    near = cells[cells["suite"].isin(table["suite"].unique()) & cells["target"].isin(table["target"].unique())]
    ordered = near.assign(unmeasured=near["status"] != "ok").sort_values(
        ["suite_version", "unmeasured", "seed"], ascending=[False, True, True], kind="stable"
    )
    return table.merge(ordered.drop_duplicates(ROW)[[*ROW, "cell_id"]], on=ROW, how="left")
