"""Scores that compare across targets: recovered share with its interval, and tables of targets by methods."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri, stdtrit

from bench.board.index.rows import Row
from bench.board.stats.moderation import SeedVariance, Term, harmonic, moderate, moderated
from bench.board.stats.paired import LEVEL, Bitmaps, Floats, common_table, credit_share, paired_difference, spread
from bench.board.stats.ranks import GROUP

if TYPE_CHECKING:
    import pandas as pd  # takes longer to load than a board to print

Three = tuple[SeedVariance, SeedVariance, SeedVariance]


@dataclass(frozen=True)
class Share:
    """Recovered share in percent, 0 = noise, 100 = real images; ``low`` and ``high`` hold it with 95 % confidence."""

    value: float
    low: float
    high: float


def recovered_share(
    row: Bitmaps,
    noise: Bitmaps,
    real: Bitmaps,
    level: float = LEVEL,
    between: Three | None = None,
) -> Share | None:
    """(row - noise) / (real - noise) in percent, paired by seed and test image.

    The interval is Fieller's (1954, J. Royal Statistical Society B 16:175): all shares s for which the mean of
    (row - noise) - s·(real - noise) does not differ from zero by :func:`stats.paired.half_widths`, which is a
    quadratic condition on s.  The delta method would need the denominator's error to be small, which is just what fails
    where real images hardly beat noise.  From five seeds on the bootstrap's longer arm at the estimated share is used.

    Args:
        between: moderated variances between seeds of row, noise and real; None: their own seeds alone.

    Returns:
        None, "undefined", when real images are not shown to beat noise, or the three share no seed.
    """
    tables = common_table(row, noise, real)
    if not tables:
        return None
    upper, lower = tables[0] - tables[1], tables[2] - tables[1]
    beaten = paired_difference(tables[2], tables[1])
    if between is not None:
        beaten = moderated(beaten, [Term(i, 1.0, variance) for i, variance in enumerate(between[1:])])
    if beaten.interval(level).low <= 0:
        return None
    share = float(upper.mean() / lower.mean())
    # on values scaled to points, as paired_difference has them
    ends = _fieller(100 * upper, 100 * lower, share, level, between)
    return None if ends is None else Share(100 * share, 100 * ends[0], 100 * ends[1])


def _fieller(
    first: Floats, second: Floats, share: float, level: float, between: Three | None
) -> tuple[float, float] | None:
    """Ends of the set of s with |mean(first - s·second)| within its half width; None when it is unbounded."""
    alpha, (seeds, images) = 1 - level, first.shape
    z2 = float(ndtri(alpha / 2)) ** 2
    seed_part, pooled, rest = _covariances(first, second)
    degrees: float = seeds - 1
    if between is not None:
        # the degrees of row - share·real - (1 - share)·noise, which is what must not differ from zero
        weights = np.array([1.0, share - 1, -share])
        known, freedom = (np.array([getattr(row, name) for row in between]) for name in ("moderated", "degrees"))
        degrees = float(harmonic(weights**2 * known, freedom))
        own = np.array([row.own for row in between])
        seed_part = moderate(seed_part, seeds, _beyond_noise(known), _beyond_noise(own), degrees)
    t2 = float(stdtrit(degrees, alpha / 2)) ** 2 if degrees > 0 else 0.0
    credit = rest * float(credit_share(max(degrees, 1.0), alpha))
    excess = t2 * (seed_part - credit)
    one_image = np.diag([z2 * (100 / images) ** 2, 0.0])  # the floor of stats.floor_variance
    # half width squared is the largest of these; where a part is cut off at zero another one is larger
    squares = [z2 * pooled, z2 * credit, excess + z2 * (pooled - rest + credit), excess + z2 * credit, one_image]
    arm = max(spread(first - share * second).shape)
    means = np.array([first.mean(), second.mean()])
    ends = []
    for square in squares:
        form = np.outer(means, means) - arm**2 * square  # of (1, -s): negative within the interval
        a, b, c = form[1, 1], -2 * form[0, 1], form[0, 0]
        if a <= 0:
            return None
        inside = b * b - 4 * a * c
        if inside >= 0:
            ends += [(-b - math.sqrt(inside)) / (2 * a), (-b + math.sqrt(inside)) / (2 * a)]
    return (min(ends), max(ends)) if ends else (share, share)


def _beyond_noise(variances: Floats) -> Floats:
    """Covariance of row - noise and real - noise [2, 2] from those of independent row, noise and real."""
    row, noise, real = variances
    return np.array([[row + noise, noise], [noise, real + noise]])


def _covariances(first: Floats, second: Floats) -> tuple[Floats, Floats, Floats]:
    """Seed, pooled and interaction parts of two tables [S, N], each the 2 x 2 form of :func:`stats.spread`'s."""
    seeds, images = first.shape
    tables = np.stack([first, second])
    tables = tables - tables.mean(axis=(1, 2), keepdims=True)
    by_image, by_seed = tables.mean(axis=1), tables.mean(axis=2)
    pooled = by_image @ by_image.T / (images - 1) / images
    if seeds == 1:
        return np.zeros((2, 2)), pooled, np.zeros((2, 2))
    seed_part = by_seed @ by_seed.T / (seeds - 1) / seeds
    rest = (tables - by_image[:, None, :] - by_seed[:, :, None]).reshape(2, -1)
    return seed_part, pooled, rest @ rest.T / ((seeds - 1) * (images - 1) * seeds * images)


_BESIDE = (*GROUP, "compressor", "compressor_version", "policy", "setting_label", "n", "preset")


def recovered_shares(rows: Sequence[Row], level: float = LEVEL) -> list[Share | None]:
    """Recovered share of every row that is no control, against the controls measured beside it.

    Beside: same target, compressor, setting, image count, preset, protocol and test set.  None where a cell is missing
    or stale, where there is no such control or more than one, or where the share is undefined.
    """
    controls: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.head.control in ("upper", "lower") and _usable(row):
            controls[row.head.control, *_place(row)].append(row)
    shares: list[Share | None] = []
    for row in rows:
        noise, real = controls["lower", *_place(row)], controls["upper", *_place(row)]
        if row.head.control != "none" or not _usable(row) or len(noise) != 1 or len(real) != 1:
            shares.append(None)
            continue
        lower, upper = noise[0], real[0]
        between = row.between, lower.between, upper.between
        shares.append(recovered_share(row.bitmaps, lower.bitmaps, upper.bitmaps, level, between))
    return shares


def _usable(row: Row) -> bool:
    return row.status == "ok" and not row.stale and bool(row.bitmaps)


def _place(row: Row) -> tuple[object, ...]:
    return tuple(getattr(row.head, name) for name in _BESIDE)


_BOARD = ["suite", "suite_version", "dataset", "preset", "compressor", "n"]


def method_names(table: pd.DataFrame) -> pd.Series:
    """Each row's method: source [network of its images]; "[self]" for a source that only looks at the target itself."""
    keys = [*_BOARD, "source"]
    own = (table["model"] == table["target"]).groupby([table[k] for k in keys], dropna=False).transform("all")
    several = table.groupby(keys, dropna=False)["target"].transform("nunique") > 1
    model = table["model"].where(~(own & several), "self")
    return table["source"].where(model == "", table["source"] + " [" + model + "]").rename("method")


def target_scores(table: pd.DataFrame, score: str = "top1_mean") -> dict[tuple[object, ...], pd.DataFrame]:
    """Board → targets x methods of ``score``, NaN where it is blank; for critical differences.

    A board is one suite, version, data set, preset, compressor, image count and, when a target has several, setting;
    the key lists them in this order.  Stale rows are left out; so is a cell measured under two protocols, which has no
    one value.

    Args:
        table: from :func:`bench.board.index.frame.frame`.
        score: a column of it.
    """
    return {key: _grid(part, score) for key, part in _boards(table).items()}


def _grid(part: pd.DataFrame, column: str) -> pd.DataFrame:
    methods, targets = part["method"].unique(), part["target"].unique()
    once = part[~part["stale"].astype(bool)].drop_duplicates(["method", "target"], keep=False)
    return once.pivot(index="target", columns="method", values=column).reindex(index=targets, columns=methods)


def _boards(table: pd.DataFrame) -> dict[tuple[object, ...], pd.DataFrame]:
    found = {}
    named = table[table["compressor"] != ""].assign(method=method_names)
    for key, part in named.groupby(_BOARD, sort=False):
        if (part.groupby("target")["setting_label"].nunique() == 1).all():
            found[*key, " | ".join(dict.fromkeys(part["setting_label"]))] = part
            continue
        for setting, piece in part.groupby("setting_label", sort=False):
            found[*key, str(setting)] = piece
    return found
