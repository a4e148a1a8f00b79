"""The dashboard: its pages and nothing else.  Started by `bench dashboard`; reads one store, writes none."""

from __future__ import annotations

import logging
from collections.abc import Callable

import streamlit as st

from bench.errors import BenchError
from dashboard.load import index
from dashboard.text import plain
from dashboard.theme import PAGE_STYLE
from dashboard.views import (
    ablations,
    bits,
    cell,
    choose,
    claims,
    cross_validation,
    images,
    leaderboard,
    live,
    policies,
    trade_offs,
)

log = logging.getLogger(__name__)

PAGES = (
    (choose, "Choose", ""),
    (leaderboard, "Leaderboard", "leaderboard"),
    (cross_validation, "Cross-validation", "cross-validation"),
    (trade_offs, "Trade-offs", "trade-offs"),
    (ablations, "Ablations", "ablations"),
    (images, "Images", "images"),
    (bits, "Bits per layer", "bits"),
    (policies, "Policies", "policies"),
    (cell, "Cell", "cell"),
    (claims, "Claims", "claims"),
    (live, "Live", "live"),
)


def guarded(show: Callable[[], None]) -> Callable[[], None]:
    """The page, with an error as a sentence that helps instead of a traceback."""

    def page() -> None:
        try:
            show()
        except BenchError as error:
            st.error(plain(error))
        except Exception as error:
            log.exception("page failed")
            st.error(f"This page could not be drawn: {plain(type(error).__name__)}. The server's log has the details.")

    return page


def main() -> None:
    """Draw the chosen page."""
    st.set_page_config(page_title="datafree-bench", page_icon="◧", layout="wide")
    st.html(PAGE_STYLE)
    pages = [
        st.Page(guarded(view.show), title=title, url_path=path or None, default=i == 0)
        for i, (view, title, path) in enumerate(PAGES)
    ]
    chosen = st.navigation(pages)
    with st.sidebar:
        st.caption(plain(_where()))
    chosen.run()


def _where() -> str:
    """What this dashboard reads."""
    store = index().store
    own = f"the store {store.name} and " if store else ""
    return f"Shows {own}the measured rows that come with the package."


main()
