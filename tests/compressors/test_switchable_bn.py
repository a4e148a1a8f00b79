"""Switchable BN: one clip for all widths."""

from __future__ import annotations

from methods.compressors.switchable_bn import METHOD
from tests.compressors.adaptive_toys import compress, digests


def test_its_clips_are_one_for_all_widths_and_its_normalisations_are_not() -> None:
    made = compress(METHOD, widths=(8, 2))
    wide, narrow = (variant.module.input_quantizers for variant in made.variants)
    clips = [[float(part.alpha * part.units[0]) for part in holder.children()] for holder in (wide, narrow)]
    assert clips[0] == clips[1]
    assert len(clips[0]) == 5
    assert digests(made)[0] != digests(made)[1]
    assert all(variant.protocol["activation_range"].endswith("one for all widths") for variant in made.variants)
