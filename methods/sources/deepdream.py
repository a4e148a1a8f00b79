"""DeepDream (Mordvintsev et al., 2015) in its class-conditional form: cross-entropy and an image prior, no batch norms.

Objective (docs/methods/sources.md#deepdream): CE(A(aug X), Y) + w_tv TV-l2 + w_l2 l2, i.e. DeepInversion without its
statistics (MixMix eq. 1).
Deviations: MixMix's row "DeepDream-R50" does not say which variant it is; this reading is inferred from eq. 1.  The
original's activation-norm ascent (``classic``) is not offered.  ``mini`` takes 128 images a batch, ``thorough`` 256, so
that a 128-image set is one batch; both shift by 4 of 32 pixels, as the paper's 30 of 224, which served better than 2
(docs/methods/tuning.md#deepdream).  At every setting tried the images miss the gate: nothing holds their statistics.
The CE falls to nearly 0 soon while the images hold no class: stop on the iteration count.
Paper's figure (MixMix Table 2, 224 pixels, 21 networks): zoo top-1 24.9 ± 8.23, inception score 6.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from bench.interfaces import MethodParams
from methods.sources._settings import Beta, InversionParams, LabelLaw, Prior, Terms, TvNorm
from methods.sources._single import RolledSource


class DeepDreamParams(InversionParams):
    """Prior weights ``tv``, ``l2`` (``tv_norm`` batch | rms), views (``roll`` pixels, ``flip``), ``labels`` law."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    tv: float = Field(2.5e-5, ge=0)
    l2: float = Field(1e-5, ge=0)
    tv_norm: TvNorm = "batch"
    roll: int = Field(2, ge=0)
    flip: bool = True
    warmup: int = Field(0, ge=0)
    restart: bool = False
    labels: LabelLaw = "balanced"


class DeepDream(RolledSource):
    """DataSource ``deepdream``."""

    summary = "class images from cross-entropy and an image prior alone (DeepDream)"
    paper = "Mordvintsev et al., Inceptionism: Going Deeper into Neural Networks, 2015"
    needs = frozenset[str]()
    Params: type[MethodParams] = DeepDreamParams
    presets: Mapping[str, Mapping[str, Any]] = {
        "mini": {"iterations": 200, "batch": 128, "roll": 4},
        "thorough": {"iterations": 1000, "batch": 256, "roll": 4},
        "paper": {
            "iterations": 3000,
            "half_iterations": 2000,
            "batch": 84,
            "lr": 0.2,
            "betas": (0.5, 0.9),
            "tv": 1e-4,
            "roll": 30,
            "warmup": 100,
            "restart": True,
        },
    }

    def terms(self, params: DeepDreamParams) -> Terms:
        """CE and prior."""
        return Terms(ce_weight=1.0, prior=Prior(tv_l2=params.tv, l2=params.l2, tv_norm=params.tv_norm))


METHOD = DeepDream()
