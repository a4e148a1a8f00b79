"""The best of several rows, picked on other data than it is judged on.

The highest of several means is partly the luckiest: judged on the data it was picked by, it looks better than it is
(the winner's curse).  So every answer of a picked row is one to an image of one half of the test set under one seed,
and the row was picked by the other seeds' answers to the other half.  The mean over these answers is unbiased for rows
that are picked so, from S-1 seeds and half of the images: never above the truly best row's by luck, and below it by
what such a pick costs where rows are close.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.board.stats.paired import Bitmaps, Floats, common_table

HALVES = 2
"""The images at even and at odd places: classes are as frequent in both however the test set is sorted by them."""


def fold_means(tables: Floats) -> tuple[Floats, Floats]:
    """Means of correctness [k rows, S seeds, N images] in each fold (seed and half), and what each fold's row is picked
    by: means over the other seeds and the other half, or that half of the same seed where there is one; both [k, S, 2].
    """
    means = np.stack([tables[:, :, half::HALVES].mean(axis=2) for half in range(HALVES)], axis=2)
    seeds = tables.shape[1]
    swapped = means[:, :, ::-1]
    if seeds == 1:
        return means, swapped
    return means, (swapped.sum(axis=1, keepdims=True) - swapped) / (seeds - 1)


def picked(rows: Sequence[Bitmaps]) -> tuple[Bitmaps, Floats]:
    """The best of ``rows`` as one: seed → correctness [N], each fold that of the row picked for it; and the share of
    the folds that each row has [k].

    Raises:
        ValueError: the rows share no seed, or were tested on other images.
    """
    tables = _tables(rows)
    if tables is None:
        raise ValueError("the rows share no seed and test images")
    best = fold_means(tables)[1].argmax(axis=0)
    seeds = sorted(set.intersection(*(set(row) for row in rows)))
    found = {}
    for place, seed in enumerate(seeds):
        found[seed] = np.empty(tables.shape[2])
        for half in range(HALVES):
            found[seed][half::HALVES] = tables[best[place, half], place, half::HALVES]
    return found, np.bincount(best.ravel(), minlength=len(rows)) / best.size


def lead(rows: Sequence[Bitmaps]) -> float | None:
    """By how many points the first of ``rows`` is ahead of the second, both picked on other data than they are read on.

    The plain difference of the two highest means is too high, since who leads was partly lucky.  None for a single row,
    and where the rows share no seed or test images.
    """
    tables = _tables(rows)
    if tables is None or len(rows) < 2:
        return None
    means, seen = fold_means(tables)
    order = np.argsort(seen, axis=0, kind="stable")
    ahead, behind = (np.take_along_axis(means, order[[place]], axis=0) for place in (-1, -2))
    return 100 * float((ahead - behind).mean())


def _tables(rows: Sequence[Bitmaps]) -> Floats | None:
    found = common_table(*rows) if rows else []
    return np.stack(found) if found else None
