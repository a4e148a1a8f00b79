"""SynQ's low-pass filter (Kim et al., SynQ: Accurate Zero-Shot Quantization by Synthesis-Aware Fine-Tuning, ICLR 2025),
on the images of any other source.

x' = F^-1( F(x) exp(-D^2 / (2 D0^2)) ), channel by channel: F is the two-dimensional discrete Fourier transform with the
zero frequency in the middle, D the distance from it in pixels of the spectrum, D0 the ``cutoff``
(docs/methods/sources.md#synq).  Synthesised images have more noise in their high frequencies than real ones; the mean
colour, whose D is 0, stays.  In a suite: ``{synq: {of: genie, cutoff: 8}}``, with the other source's parameters
``{synq: {of: {genie: {iterations: 400}}}}``.  Networks, data tier, labels and batches are the other source's; its
image set is stored once and serves both rows.
Known deviations: the filter alone. The paper also aligns class activation maps while the student trains, and takes hard
labels of easy images only; both belong to the training. The filter is linear, so it is the same in normalised space as
on pixels; what it leaves outside the valid box by overshooting is not clipped (a Gaussian has none: its weights in
space are positive where D0 is small against the side).
What is not certain: the cutoff, of which no published value was at hand; 8 at 32 pixels is half of the highest
frequency, and so is what ``paper`` takes: ``relative`` reads the cutoff in half sides of the image, so that one number
serves every size.
Ours (ResNet-34 of width 8, 128 images, GPTQ at W2A4, 2,000 test images, one seed; ``dgh`` with 80 passes, ``kw`` with
120): of ``kw`` 83.9 (unfiltered 82.4), 75.8 at cutoff 4; of ``dgh`` 87.2 (87.3); of noise at cutoff 4 55.3 (38.5).
Paper's figure: MixMix does not measure it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bench.errors import BenchError
from bench.interfaces import ImageBatch, LabelKind, MethodParams, ModelHandle, Offer, RunContext, SynthRequest, Tier
from methods.sources._base import Defaults

if TYPE_CHECKING:
    from torch import Tensor


class SynqParams(MethodParams):
    """``cutoff`` D0 in pixels of the spectrum, or with ``relative`` in half sides of the image."""

    cutoff: float = Field(8.0, gt=0)
    relative: bool = False


class Synq(Defaults):
    """DataSource ``synq``."""

    version = 1
    summary = "low-pass filter on another source's images (SynQ)"
    paper = "Kim et al., SynQ: Accurate Zero-Shot Quantization by Synthesis-Aware Fine-Tuning, ICLR 2025"
    needs: frozenset[str] = frozenset()
    Params: type[MethodParams] = SynqParams
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {"cutoff": 0.5, "relative": True}}
    access: Tier = "T0"
    models: Literal["none", "one", "zoo", "one+zoo"] = "none"
    label_kind: LabelKind = "none"
    offers: frozenset[Offer] = frozenset({"filter"})

    def batch_size(self, params: SynqParams) -> int:
        """One image: in a suite the batches are the other source's."""
        return 1

    def check(self, params: SynqParams, models: tuple[ModelHandle, ...]) -> None:
        """No network is looked at."""

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """The given batch, filtered; its labels and its cost stay.

        Raises:
            BenchError: no batch is given.
        """
        if request.given is None:
            raise BenchError("there are no images to filter", where="synq", expected="another source's batch")
        given, p = request.given, request.params
        side = max(given.images.shape[2:])
        cutoff = p.cutoff * side / 2 if p.relative else p.cutoff
        images = low_pass(given.images.to(ctx.device), cutoff).to("cpu")
        lost = float(1 - images.double().var() / given.images.double().var().clamp(min=1e-12))
        # what the record says of the other's images (statistics, top-1) does not hold of these
        info = {"models": given.info.get("models", []), "of": given.info, "cutoff": cutoff, "variance_taken": lost}
        return ImageBatch(images, given.labels, given.soft_labels, given.forward_equivalents, info)


def low_pass(images: Tensor, cutoff: float) -> Tensor:
    """``images`` [B,C,H,W] with each frequency scaled by exp(-D^2 / (2 cutoff^2)), float32; D in cycles per image."""
    import torch

    height, width = images.shape[2:]
    rows = torch.fft.fftfreq(height, 1 / height, device=images.device)
    columns = torch.fft.rfftfreq(width, 1 / width, device=images.device)
    distance = rows[:, None].square() + columns[None, :].square()
    gain = torch.exp(-distance / (2 * cutoff**2))
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(images.float()) * gain, s=(height, width))
    return filtered


METHOD = Synq()
