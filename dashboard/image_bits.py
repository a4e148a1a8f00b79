"""The part of the page of bits that speaks of images: what each takes where bits depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from bench.board.tables.dynamic import MEANING, NEAR, ranged
from bench.board.tables.grids import line_dicts
from bench.board.tables.searches import INTERVAL_FROM
from bench.store.records import ResultRecord
from dashboard.common import chart
from dashboard.figures.image_bits import PARTS, against_difficulty, histogram, training_curves
from dashboard.load import dynamic_of
from dashboard.tables import Column, Html, html_table
from dashboard.text import counted, interval, missing, number, plain, rounded, row_name

TAKEN = (
    Column("row"),
    Column("top-1 %", True),
    Column("GBitOPs", True, "1e9 bit operations of an image"),
    Column("bit-FLOPs %", True, "bit operations of an image in per cent of those at 32 x 32 bits"),
    Column("bits of an image", True, MEANING),
    Column("of", True, "the fewest and the most bits an image can have"),
    Column("with difficulty", True, "Spearman's rank correlation of an image's bit operations and its difficulty"),
    Column("seeds", True),
)
EQUAL = (
    Column("row"),
    Column("static"),
    Column("between", False, "the static rows whose bit operations enclose the row's"),
    Column("bit-FLOPs %", True),
    Column("dynamic top-1 %", True),
    Column("static top-1 %", True, "on the straight line between the two"),
    Column("gain", True, "dynamic minus static in points, paired by seed and image"),
    Column("95 %", True),
    Column("seeds", True),
)


def show_image_bits(chosen: Mapping[str, ResultRecord], cells: pd.DataFrame) -> None:
    """Histogram and difficulty of the chosen rows, what all dynamic rows of the target take and gain, and the curves of
    the chosen rows' trainings; nothing where no chosen row's bits depend on the image.

    Args:
        chosen: the row's name → its record.
        cells: the measured cells of the target, to read the other rows from.
    """
    moving = {name: record for name, record in chosen.items() if record.image_bits is not None}
    if not moving:
        return
    st.header("Bits per image")
    images = max(record.test_count for record in moving.values())
    st.caption(plain(f"{counted(images, 'test image')} · bits of an image: {MEANING}"))
    left, right = st.columns(2)
    with left:
        chart(histogram(moving), "image-bits")
    with right:
        chart(against_difficulty(moving), "image-difficulty")
    st.caption(plain(f"Right: {PARTS} parts of equally many images, bars are 95 % intervals over a part's images."))
    _tables(cells)
    _trainings(moving)


def _tables(cells: pd.DataFrame) -> None:
    taken, equal = dynamic_of(cells)
    st.html(html_table(TAKEN, [_taken(row) for row in line_dicts(taken)]))
    st.caption("Means over test images and seeds with 95 % intervals; one seed's interval holds for that seed.")
    if equal.empty:
        return
    st.markdown("**Against static networks of equal mean bit operations**")
    st.html(html_table(EQUAL, [_against(row) for row in line_dicts(equal)]))
    st.caption(
        plain(
            "Static accuracy: on the straight line between the static rows that enclose the row's bit operations, or "
            f"of the nearest within {100 * NEAR:g} %. Intervals from {INTERVAL_FROM} seeds on."
        )
    )


def _trainings(moving: Mapping[str, ResultRecord]) -> None:
    figures = training_curves(moving)
    if not figures:
        return
    with st.expander("Curves of the trainings", expanded=True):
        for i, figure in enumerate(figures.values()):
            chart(figure, f"image-training-{i}")


def _name(row: Mapping[str, Any]) -> str:
    name = row_name(str(row["source"]), str(row["model"]))
    return f"{name} · {row['compressor']} · {row['setting_label']} · {row['n']} images"


def _taken(row: Mapping[str, Any]) -> list[str | Html]:
    top1 = rounded(row["top1_mean"], row["top1_low"], row["top1_high"])
    ends = f"{number(row['bits_least'], 1)}–{number(row['bits_most'], 1)}"
    stale = " †" if row["stale"] else ""
    means = [ranged(row, name, digits) for name, digits in (("bitops_g", 4), ("bitflops", 3), ("bits", 2))]
    return [_name(row) + stale, top1, *means, ends, ranged(row, "correlation", 2), str(row["seeds"])]


def _against(row: Mapping[str, Any]) -> list[str | Html]:
    gain = number(row["gain"]) if missing(row["gain_low"]) else rounded(row["gain"], row["gain_low"], row["gain_high"])
    numbers = [number(row["bitflops_mean"], 3), number(row["top1_mean"]), number(row["static_top1"]), gain]
    ends = interval(row["gain_low"], row["gain_high"])
    return [_name(row), str(row["static"]), str(row["between"]), *numbers, ends, str(row["seeds"])]
