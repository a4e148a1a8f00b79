"""AdaBits: clips of each width."""

from __future__ import annotations

from methods.compressors.adabits import METHOD
from tests.compressors.adaptive_toys import compress


def test_its_clips_are_each_widths_own() -> None:
    made = compress(METHOD, widths=(8, 2))
    wide, narrow = (variant.module.input_quantizers for variant in made.variants)
    clips = [[float(part.alpha * part.units[0]) for part in holder.children()] for holder in (wide, narrow)]
    assert all(a != b for a, b in zip(clips[0][:-1], clips[1][:-1], strict=True))  # the last has 8 bits at both
