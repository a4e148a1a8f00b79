"""Individual networks: one training for each bit-width."""

from __future__ import annotations

from methods.compressors.individual import METHOD
from tests.compressors.adaptive_toys import compress, digests


def test_each_width_is_trained_as_if_it_were_alone() -> None:
    """From the same draws, whatever else is trained in the job; an untrained width goes by the nearest network."""
    made = compress(METHOD, widths=(8, 4), zero_shot=(6, 3))
    assert digests(made)[0] == digests(compress(METHOD, widths=(8,)))[0]
    assert digests(made)[1] == digests(compress(METHOD, widths=(4,)))[0]
    assert digests(made)[2] == digests(compress(METHOD, widths=(8,), zero_shot=(6,)))[1]
    assert digests(made)[3] == digests(compress(METHOD, widths=(4,), zero_shot=(3,)))[1]
    assert [one["widths"] for one in made.report["networks"]] == [["W8A8"], ["W4A4"]]
    assert "alone" in METHOD.offers  # what the board divides by: a network of one width each
    assert [one.protocol["widths"] for one in made.variants] == [["W8A8"], ["W4A4"], ["W8A8"], ["W4A4"]]
    assert [one.protocol["zero_shot"] for one in made.variants] == [False, False, True, True]


def test_it_takes_no_stream() -> None:
    """Its later networks would see a better generator's images."""
    assert METHOD.deliveries == {"cached"}
