"""What can be asked of the measured rows: networks, settings, limits; the answer is in :mod:`choose.answer`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import pandas as pd

from bench.board.choose.joined import Choice
from bench.errors import BenchError, nearest
from bench.interfaces import TIERS as TIERS  # the dashboard offers them


@dataclass(frozen=True)
class Question:
    """A network's name, or a pattern of several (``mobilenet*``: means over them), and what is asked of it.

    ``bits``: a row's setting, W4A4.  Limits, None where there is none: ``minutes`` of CPU time to make an image set,
    ``images``, and ``tier``, the most a source may look at.  ``per_layer``: bits by layer, by image, or at several
    widths from one training, in place of equal bits.
    """

    dataset: str
    network: str
    bits: str
    minutes: float | None = None
    images: int | None = None
    tier: str | None = None
    per_layer: bool = False

    def within(self, choice: Choice) -> bool:
        """Whether the limits allow it; what is not known is beyond a limit."""
        if self.images is not None and choice.n > self.images:
            return False
        if self.tier is not None and (choice.access not in TIERS or _beyond(choice.access, self.tier)):
            return False
        return self.minutes is None or (choice.synthesis_s is not None and choice.synthesis_s <= 60 * self.minutes)


def asked_of(table: pd.DataFrame) -> pd.DataFrame:
    """The measured rows that a question can be about."""
    return table[(table["compressor"] != "") & (table["status"] == "ok")]


def networks(table: pd.DataFrame, dataset: str) -> list[str]:
    """Networks of a data set by their rows that are up to date, most first; then patterns of those whose names begin
    alike, and ``*`` where there are several."""
    rows = asked_of(table)
    rows = rows[rows["dataset"] == dataset]
    fresh = rows[~rows["stale"].astype(bool)]["target"].value_counts()
    names = sorted(map(str, rows["target"].unique()), key=lambda name: (-int(fresh.get(name, 0)), name))
    stems = [found[0] for name in names if (found := re.match(r"[A-Za-z]{3,}", name))]
    alike = sorted({f"{stem}*" for stem in stems if sum(name.startswith(stem) for name in names) > 1})
    return [*names, *alike, *(["*"] if len(names) > 1 else [])]


def settings(table: pd.DataFrame, dataset: str, network: str) -> list[str]:
    """Settings measured of a network, those of bits alone first, most rows first."""
    rows = asked_of(table)
    rows = rows[(rows["dataset"] == dataset) & fits(rows, network)]
    counts = rows["setting_label"].value_counts()
    return sorted((str(one) for one in counts.index if one), key=lambda one: (" " in one, -int(counts[one]), one))


def fits(rows: pd.DataFrame, network: str) -> pd.Series:
    """Which rows are of a network, or of one that fits the pattern."""
    found = map(str, rows["target"].unique())
    names = [name for name in found if name == network or fnmatchcase(name, network)]
    return rows["target"].isin(names)


def tier_of(text: str) -> str:
    """A tier's name; T2 is T2b, the wider of its two.

    Raises:
        BenchError: there is no such tier.
    """
    found = [tier for tier in TIERS if tier.lower().startswith(text.lower())] if len(text) > 1 else []
    if not found:
        raise BenchError("no such tier", where="--tier", got=text, expected=TIERS, nearest=nearest(text, TIERS))
    return found[-1]


def checked(question: Question, table: pd.DataFrame) -> Question:
    """The question, its tier by its full name.

    Raises:
        BenchError: a data set, network or setting that was not measured, or a limit that is none.
    """
    known = list(map(str, asked_of(table)["dataset"].unique()))
    _known(question.dataset, known, "--dataset", "nothing is measured on this data set")
    offered = networks(table, question.dataset)
    if not any(fnmatchcase(name, question.network) for name in offered):
        _known(question.network, offered, "--network", "nothing is measured of this network")
    bits = settings(table, question.dataset, question.network)
    _known(question.bits, bits, "--bits", f"nothing is measured of {question.network} at this setting")
    for name, value in (("--minutes", question.minutes), ("--images", question.images)):
        if value is not None and not 0 < value < 1e9:
            raise BenchError("is no limit", where=name, got=value, expected="a number above 0")
    return question if question.tier is None else replace(question, tier=tier_of(question.tier))


def _known(name: str, known: Sequence[str], where: str, what: str) -> None:
    if name not in known:
        raise BenchError(what, where=where, got=name, expected=known, nearest=nearest(name, known))


def _beyond(access: str, limit: str) -> bool:
    places = list(map(str, TIERS))
    return places.index(access) > places.index(limit)
