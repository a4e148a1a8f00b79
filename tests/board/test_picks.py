"""Picked rows: judged on other seeds and images, so that luck does not count."""

from __future__ import annotations

import numpy as np
import pytest

from bench.board.stats.picks import fold_means, lead, picked


def rows(
    rng: np.random.Generator, means: list[float], seeds: int = 3, images: int = 200
) -> list[dict[int, np.ndarray]]:
    return [{s: rng.random(images) < mean for s in range(seeds)} for mean in means]


def test_a_fold_is_picked_by_the_other_seeds_and_the_other_half() -> None:
    table = np.random.default_rng(0).random((2, 3, 10))
    means, seen = fold_means(table)
    assert means[1, 2, 0] == pytest.approx(table[1, 2, ::2].mean())
    assert seen[1, 2, 0] == pytest.approx(table[1, :2, 1::2].mean())
    changed = table.copy()
    changed[:, 2, ::2] += 5  # what a fold is judged on does not pick it
    np.testing.assert_allclose(fold_means(changed)[1][:, 2, 0], seen[:, 2, 0])
    alone, by = fold_means(table[:, :1])
    np.testing.assert_allclose(by, alone[:, :, ::-1])


def test_the_picked_row_is_put_together_from_its_folds() -> None:
    good, poor = np.ones(6), np.zeros(6)
    found, shares = picked([{0: poor, 1: poor}, {0: good, 1: good}])
    np.testing.assert_array_equal(found[0], good)
    assert list(shares) == [0, 1]
    with pytest.raises(ValueError, match="share no seed"):
        picked([{0: good}, {1: good}])


def test_a_winner_by_luck_alone_leads_by_nothing() -> None:
    """Ten rows of one true accuracy: the highest mean is ahead of the second, the picked row is not."""
    rng = np.random.default_rng(1)
    plain, honest = [], []
    for _ in range(150):
        found = rows(rng, [0.8] * 10)
        means = sorted(100 * np.mean(list(row.values())) for row in found)
        plain.append(means[-1] - means[-2])
        honest.append(lead(found) or 0.0)
    error = np.std(honest) / np.sqrt(len(honest))
    assert np.mean(plain) > 0.4
    assert abs(np.mean(honest)) < 3 * error
    clear = lead(rows(rng, [0.9, 0.7, 0.5], images=2000))
    assert clear == pytest.approx(20, abs=3)
    assert lead(found[:1]) is None
