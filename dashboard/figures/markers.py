"""How sources and compressors look in a figure: colour, marker and how it is filled."""

from __future__ import annotations

import pandas as pd

from dashboard.theme import CONTROLS, GREY, PALETTE

SYMBOLS = ("circle", "square", "triangle-up", "cross", "x", "star", "pentagon", "triangle-down")
FILLS = ("", "-open", "-dot", "-open-dot")
"""How markers differ where there are more sources than colours."""


def source_colours(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(source method, control) → colour: controls have their own, methods the palette in alphabetical order."""
    colours = {pair: PALETTE[i % len(PALETTE)] for i, pair in enumerate(_pairs(rows, "none"))}
    return {pair: colours.get(pair, CONTROLS.get(pair[1], GREY)) for pair in _pairs(rows)}


def source_fills(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(source method, control) → ending of the marker's name; each time the palette begins again another one."""
    fills = {pair: FILLS[i // len(PALETTE) % len(FILLS)] for i, pair in enumerate(_pairs(rows, "none"))}
    return {pair: fills.get(pair, "") for pair in _pairs(rows)}


def _pairs(rows: pd.DataFrame, control: str | None = None) -> list[tuple[str, str]]:
    """Source methods and their control, sorted; those of one control only where it is given."""
    pairs = {(str(m), str(c)) for m, c in zip(methods_of(rows), rows["control"], strict=True)}
    return sorted(pair for pair in pairs if control in (None, pair[1]))


def compressor_symbols(rows: pd.DataFrame) -> dict[str, str]:
    """Compressor → marker, in alphabetical order."""
    return {str(name): SYMBOLS[i % len(SYMBOLS)] for i, name in enumerate(sorted(set(rows["compressor"])))}


def methods_of(rows: pd.DataFrame) -> pd.Series:
    """The source method of each row, as what a figure groups them by."""
    return rows["source_method"].astype(str).rename("method")
