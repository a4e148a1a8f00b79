"""Widgets whose choice stands in the page's address, so that a link shows the same view again.

An address is read as a choice among what is offered and nothing else: an unknown value is named and the default taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import streamlit as st

from bench.text import visible
from dashboard.text import plain

LONGEST = 100
"""Characters that may be searched for."""

_FOLD = """<style>
@media (min-width:641px){.st-key-fold{display:none}}
@media (max-width:640px){
[data-testid="stMainBlockContainer"]:not(:has(.st-key-fold input:checked)) .st-key-filters:not(:has(
[data-testid="stAlert"])){display:none}
}
</style>"""


def choice(
    label: str, key: str, options: Sequence[str], default: str | None = None, shown: Callable[[str], str] = str
) -> str:
    """One of ``options`` (at least one), as a select box; ``key`` is its name in the address."""
    start = default if default in options else options[0]
    kept = st.session_state.get(f"kept_{key}") or [None]
    asked = st.query_params.get(key, kept[0])
    if asked is not None and asked not in options:
        if key in st.query_params:
            st.info(plain(f"There is no {label.lower()} “{asked}” here; this shows “{start}”."))
        asked = None
    value = start if asked is None else asked
    st.session_state[f"widget_{key}"] = value
    found: str = st.selectbox(
        plain(label),
        options,
        key=f"widget_{key}",
        format_func=_visibly(shown),
        on_change=_remember,
        args=(key, False),
    )
    _write(key, [found])
    return found


def _visibly(shown: Callable[[str], str]) -> Callable[[str], str]:
    return lambda option: visible(shown(option))


def choices(label: str, key: str, options: Sequence[str], shown: Callable[[str], str] = str) -> list[str]:
    """Some of ``options``; none chosen means all."""
    return picked(label, key, options, shown) or list(options)


def picked(
    label: str, key: str, options: Sequence[str], shown: Callable[[str], str] = str, empty: str = "all"
) -> list[str]:
    """The options chosen, in the order they were chosen in.

    Args:
        empty: what the field says while none is.
    """
    asked = st.query_params.get_all(key) or st.session_state.get(f"kept_{key}", [])
    value = [item for item in dict.fromkeys(asked) if item in options]
    if len(value) < len(set(asked)) and key in st.query_params:
        st.info(plain(f"Not offered here, and left out: {', '.join(sorted(set(asked) - set(value)))}."))
    st.session_state[f"widget_{key}"] = value
    found: list[str] = st.multiselect(
        plain(label),
        options,
        key=f"widget_{key}",
        format_func=_visibly(shown),
        placeholder=empty,
        on_change=_remember,
        args=(key, True),
    )
    _write(key, found)
    return found


def words(label: str, key: str, hint: str) -> list[str]:
    """What is typed into a field for searching, in lower case, by word; no more than :data:`LONGEST` characters of it.

    Args:
        hint: what may be searched for, shown while the field is empty.
    """
    asked = st.query_params.get(key, (st.session_state.get(f"kept_{key}") or [""])[0])
    st.session_state[f"widget_{key}"] = asked[:LONGEST]
    found: str = st.text_input(
        plain(label),
        key=f"widget_{key}",
        placeholder=hint,
        max_chars=LONGEST,
        on_change=_remember_words,
        args=(key,),
    )
    _write(key, [found] if found.strip() else [])
    return found.lower().split()


def _remember_words(key: str) -> None:
    value = st.session_state[f"widget_{key}"]
    _write(key, [value] if value.strip() else [])


@contextmanager
def folded(label: str = "Show filters") -> Iterator[None]:
    """The filters drawn within; on a phone they are hidden until a box above them is ticked.

    The page's width is known to the browser alone, so style decides.  What a filter has to say of the address, such as
    a choice that is not offered, is seen in any case.
    """
    st.html(_FOLD)
    st.checkbox(plain(label), key="fold")
    with st.container(key="filters"):
        yield


def _remember(key: str, several: bool) -> None:
    """The widget's value wins over the address from here on."""
    value = st.session_state[f"widget_{key}"]
    _write(key, value if several else [value])


def _write(key: str, values: Sequence[str]) -> None:
    st.session_state[f"kept_{key}"] = list(values)
    if not values:
        st.query_params.pop(key, None)
    elif st.query_params.get_all(key) != list(values):
        st.query_params[key] = list(values)


def switch(label: str, key: str, name: str) -> bool:
    """On or off, for the place ``name``; the address lists under ``key`` the places where it is on."""
    on = name in _switched(key)
    st.session_state[f"widget_{key}_{name}"] = on
    found: bool = st.toggle(plain(label), key=f"widget_{key}_{name}", on_change=_remember_switch, args=(key, name))
    if found:
        _write(key, [*(place for place in _switched(key) if place != name), name])
    return found


def _switched(key: str) -> list[str]:
    return st.query_params.get_all(key) or list(st.session_state.get(f"kept_{key}", []))


def _remember_switch(key: str, name: str) -> None:
    others = [place for place in _switched(key) if place != name]
    _write(key, [*others, name] if st.session_state[f"widget_{key}_{name}"] else others)


def amount(label: str, key: str) -> float | None:
    """A positive number, or None when the field is empty; an address that holds none is named and left aside."""
    asked = st.query_params.get(key, (st.session_state.get(f"kept_{key}") or [None])[0])
    value: float | None = None
    try:
        value = float(asked) if asked is not None else None
    except ValueError:
        st.info(plain(f"“{asked}” is no number; this is shown without that limit."))
    value = value if value is not None and 0 < value < 1e9 else None
    st.session_state[f"widget_{key}"] = value
    found: float | None = st.number_input(
        plain(label),
        min_value=0.0,
        value=None,
        key=f"widget_{key}",
        placeholder="no limit",
        on_change=_remember_amount,
        args=(key,),
    )
    _write(key, [f"{found:g}"] if found else [])
    return found or None


def _remember_amount(key: str) -> None:
    value = st.session_state[f"widget_{key}"]
    _write(key, [f"{value:g}"] if value else [])
