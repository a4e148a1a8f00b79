"""Figures of bits per image: what they draw is what the record's lists say."""

from __future__ import annotations

import numpy as np
import pytest

from bench.board.tables.dynamic import per_image
from bench.store.image_bits import unpack_floats
from dashboard.figures.image_bits import PARTS, against_difficulty, histogram, parts_of, training_curves
from tests.board.make import IMAGES, record
from tests.board.test_dynamic import dynamic


def test_the_histogram_counts_every_image() -> None:
    one = dynamic(0.8, up=0.25)
    (bars,) = histogram({"row": one}).data
    assert sum(bars.customdata) == IMAGES
    assert sum(bars.y) == pytest.approx(100)
    assert (bars.y[0], bars.y[-1]) == (75, 25)  # 3 bits, 5 bits; nothing in between
    assert bars.x[0] - bars.width / 2 == pytest.approx(3)
    assert bars.x[-1] + bars.width / 2 == pytest.approx(5)
    lines = histogram({"<b>": one, "other": dynamic(0.8, up=0.0)}).data
    assert [line.name for line in lines] == ["&lt;b&gt;", "other"]
    assert [max(line.y) for line in lines] == [75, 100]


def test_parts_are_of_equally_many_images_by_difficulty() -> None:
    rng = np.random.default_rng(1)
    bits, hard = rng.random(103), rng.random(103)
    means, mean, half = parts_of(bits, hard)
    assert len(means) == len(mean) == len(half) == PARTS
    assert list(means) == sorted(means)
    first = np.argsort(hard)[:11]
    assert mean[0] == pytest.approx(bits[first].mean())
    assert half[0] == pytest.approx(1.959964 * bits[first].std(ddof=1) / np.sqrt(11))
    assert mean @ [11, 11, 11, *[10] * 7] / 103 == pytest.approx(bits.mean())
    for few in (1, 2, 5):
        assert len(parts_of(bits[:few], hard[:few])[0]) == max(1, few // 2)


def test_harder_images_stand_to_the_right() -> None:
    found = dynamic(0.8)
    (line,) = against_difficulty({"row": found}).data
    assert found.image_bits is not None
    pair = per_image(found)
    assert pair is not None
    assert list(line.y) == pytest.approx(list(parts_of(*pair)[1]))
    assert line.y[-1] > line.y[0]
    assert pair[0] == pytest.approx((unpack_floats(found.image_bits.bitops_g, IMAGES) - 2) / 4)
    assert per_image(record(0.8)) is None


def test_a_curve_has_a_figure_with_a_line_for_each_row_that_logged_it() -> None:
    rows = {
        "on": dynamic(0.8, curves={"ce": [(0, 1.0), (1, 0.5)], "bits/mixed": [(0, 4.0)], "bits/plain": [(0, 3.0)]}),
        "off": dynamic(0.8, curves={"ce": [(0, 1.0), (1, 0.9)], "empty": []}),
    }
    found = training_curves(rows)
    assert list(found) == ["ce", "bits"]
    assert {line.name: list(line.y) for line in found["ce"].data} == {"on": [1.0, 0.5], "off": [1.0, 0.9]}
    assert [line.name for line in found["bits"].data] == ["on · mixed", "on · plain"]
    (alone,) = training_curves({"off": rows["off"]})["ce"].data
    assert alone.name == "ce"
    assert training_curves({"none": dynamic(0.8)}) == {}
