"""A network for each bit-width, each trained by itself: what one network for all bit-widths is compared with.

The denominator of CoQuant's Delta_B = 100 / |B| times the sum over B of the adaptive network's accuracy over this
one's (Sun et al., supplementary material, section 4), and its Table 5.  Each training is that of the adaptive
compressors at a single width, from the same draws, so that it sees the same batches; all of a job's trainings are its
cost.

Known deviations:
- That Delta_B divides by individually trained networks is read off the published numbers: with the full-precision
  accuracy below it they give 99.6, not the published 100.1.
- The rest is as in `adabits`, whose loss is this one's at each width.
- A stream of images is not taken: its later networks would see a better generator's.

Published figures (Table 5, ActivityNet, 8, 6, 4, 2 bits): DoReFa's weights 65.2, 65.0, 64.5, 59.7, modified ones 65.3,
65.5, 64.3, 59.9.
Ours (VGG-8, steps and images as in `coquant`): 95.1, 95.1, 95.1, 91.5 at 8, 6, 4, 2 bits; the nearest wider network at
7, 5, 3 bits 95.1, 95.2, 93.9.  38 CPU seconds, 33 to 37 for one adaptive network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench.interfaces import Compressed, Delivery, ImageSet, ModelHandle, Offer, RunContext
from methods.compressors._adaptive import AdaptiveCompressor
from methods.quant.widths import Widths


class Individual(AdaptiveCompressor):
    """The compressor; see the module's docstring."""

    version = 1
    summary = "a network for each bit-width, each trained by itself: what one network for all is compared with"
    paper = "Sun et al., Improved Techniques for Quantizing Deep Networks with Adaptive Bit-Widths"
    deliveries: frozenset[Delivery] = frozenset({"cached"})
    offers: frozenset[Offer] = frozenset({"teacher", "alone"})

    def trained(self, model: ModelHandle, images: ImageSet, widths: Widths, params: Any, ctx: RunContext) -> Compressed:
        """A training of a copy of ``model`` for each trained width, all from the same draws."""
        start = ctx.generator.get_state()
        made = []
        for place in range(len(widths.trained)):
            ctx.generator.set_state(start)
            told = replace(ctx, report=_part(ctx, place, len(widths.trained)))
            made.append(super().trained(model, images, alone(widths, place), params, told))
        found = {variant.setting.values: variant for one in made for variant in one.variants}
        return Compressed(
            tuple(found[wanted.values] for wanted in widths.all),
            {"networks": [dict(one.report) for one in made]},
            sum(one.forward_equivalents for one in made),
        )


def alone(widths: Widths, place: int) -> Widths:
    """The trained setting at ``place`` by itself, with the others that go by it."""
    others = tuple(other for other, near in zip(widths.zero_shot, widths.nearest, strict=True) if near == place)
    return Widths(widths.asked, (widths.trained[place],), others, (0,) * len(others))


def _part(ctx: RunContext, place: int, parts: int) -> Callable[[str, int, int], None]:
    """Progress of one training as that of all."""
    return lambda stage, step, total: ctx.report(stage, place * total + step, parts * total)


METHOD = Individual()
