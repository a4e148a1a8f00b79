"""Whether images invert the networks they were made from: what is stored of it, and the verdict.  No torch.

A synthesis that failed still yields images, and a board would rank them without a word.  So each stored batch says how
its own networks read it (:class:`OwnReading`, under :data:`INVERSION` in its info), and a record holds the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

INVERSION = "inversion"
"""Key of a batch's ``info``: the readings of its own networks, JSON."""

LEAST_TOP1 = 90.0
"""Per cent; images whose own networks find fewer of their labels do not invert them."""

MOST_BN = 0.5
"""Of noise's BN loss; images that keep more of it do not invert their networks."""

MEANING = (
    f"the images do not invert their network: own top-1 below {LEAST_TOP1:.0f} % or own BN loss above "
    f"{MOST_BN:g} of that of noise"
)


class OwnReading(BaseModel):
    """How one network reads ``n`` images that were made from it.

    ``top1`` in per cent, over the ``labelled`` of them whose assigned label names one class; ``bn_loss`` (u1, pooled)
    of the images and of as many of noise.  None where there is no such label, or no BN statistics.
    """

    model_config = ConfigDict(frozen=True)

    network: str
    n: int
    labelled: int = 0
    top1: float | None = None
    bn_loss: float | None = None
    noise_bn_loss: float | None = None


class ImageGate(BaseModel):
    """The readings of an image set by its own networks, means over ``n`` images.

    ``bn_share``: BN loss over noise's, formed network by network, since their units differ.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    top1: float | None
    bn_loss: float | None
    noise_bn_loss: float | None
    bn_share: float | None
    n: int
    flagged: bool


def judged(batches: Sequence[Mapping[str, Any]]) -> ImageGate | None:
    """The verdict from the ``info`` of a set's batches; None where no batch was read by its own networks (controls,
    sources that invert none, sets stored before readings were).

    Raises:
        ValueError: readings of another form.
    """
    found = [OwnReading.model_validate(raw) for info in batches for raw in info.get(INVERSION, [])]
    if not found:
        return None
    top1 = _mean((r.top1, r.labelled) for r in found)
    share = _mean((_share(r), r.n) for r in found)
    return ImageGate(
        top1=top1,
        bn_loss=_mean((r.bn_loss, r.n) for r in found),
        noise_bn_loss=_mean((r.noise_bn_loss, r.n) for r in found),
        bn_share=share,
        n=sum(max((raw["n"] for raw in info.get(INVERSION, [])), default=0) for info in batches),
        flagged=(top1 is not None and top1 < LEAST_TOP1) or (share is not None and share > MOST_BN),
    )


def _share(reading: OwnReading) -> float | None:
    if reading.bn_loss is None or not reading.noise_bn_loss:
        return None
    return reading.bn_loss / reading.noise_bn_loss


def _mean(weighted: Iterable[tuple[float | None, int]]) -> float | None:
    """Mean of the values that are known, by their weights."""
    known = [(value, weight) for value, weight in weighted if value is not None and weight > 0]
    return sum(v * w for v, w in known) / sum(w for _, w in known) if known else None
