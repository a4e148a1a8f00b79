"""Dead leaves: images of random shapes that hide each other, unrelated to any data but with edges, texture and scales.

Leaves fall one onto the other until nothing of the ground is seen (Lee, Mumford & Huang, "Occlusion Models for Natural
Images", IJCV 2001): places uniform, radii by the power law p(r) ~ r^-3 between ``radius`` (parts of the shorter side),
which makes the statistics nearly the same at every scale, as those of natural images are.  Shapes, colours and textures
as Baradad et al. ("Learning to See by Looking at Noise", NeurIPS 2021; "mixed" and "textured"): discs, squares and
triangles turned at random, each of one colour uniform per channel, with a grating of random direction, period and
strength on it.  One channel is one grey.
Deviations: a grating stands for their textures, which are images of another process; shapes fall ``leaves`` times
instead of until the ground is covered (at the defaults 1.6 % of it shows, in a colour of its own); drawn at twice the
side and averaged, for edges without steps.  No figure of the papers applies: they train on such images.
The tier is that of noise: nothing is read, all is drawn from the generator.  No labels; pseudo labels are the
consumer's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from bench.interfaces import ImageBatch, LabelKind, MethodParams, ModelHandle, RunContext, SynthRequest, Tier
from methods.sources._base import Defaults

if TYPE_CHECKING:
    from torch import Generator, Tensor

_SCALE = 2  # drawn so many times larger
_SIDES = (3, 4, 64)  # a polygon of 64 sides is a disc to less than a hundredth of its radius
_AT_ONCE = 2_000_000  # pixels drawn at a time


class DeadLeavesParams(MethodParams):
    """``batch`` images per stored batch; ``leaves`` per image; ``radius`` range in parts of the shorter side;
    ``texture`` is the most a grating adds to a colour of [0, 1]."""

    batch: int = Field(128, ge=1)
    leaves: int = Field(100, ge=1)
    radius: tuple[float, float] = (0.08, 0.6)
    texture: float = Field(0.3, ge=0, le=1)

    @model_validator(mode="after")
    def _range(self) -> Self:
        if not 0 < self.radius[0] < self.radius[1]:
            raise ValueError(f"radius must be a range above 0, got {self.radius}")
        return self


class DeadLeaves(Defaults):
    """DataSource ``dead_leaves``."""

    version = 1
    summary = "generated images of textured shapes that hide each other, without labels (dead leaves)"
    paper = "Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021; Lee et al., IJCV 2001"
    needs: frozenset[str] = frozenset()
    Params: type[MethodParams] = DeadLeavesParams
    presets: Mapping[str, Mapping[str, Any]] = {"mini": {}, "thorough": {}, "paper": {}}
    access: Tier = "T1"
    models = "none"
    label_kind: LabelKind = "none"

    def batch_size(self, params: DeadLeavesParams) -> int:
        """Images per batch."""
        return params.batch

    def check(self, params: DeadLeavesParams, models: tuple[ModelHandle, ...]) -> None:
        """Always applicable."""

    def synthesize_batch(self, request: SynthRequest, ctx: RunContext) -> ImageBatch:
        """Draw one batch from the context's generator."""
        import torch

        from methods.sources._augment import PixelSpace

        _, height, width = request.dataset.shape
        some = max(1, _AT_ONCE // (_SCALE**2 * height * width))
        sizes = [min(some, request.batch_size - start) for start in range(0, request.batch_size, some)]
        parts = [paint(count, request.dataset.shape, request.params, ctx.generator) for count in sizes]
        return ImageBatch(PixelSpace.of(request.dataset).normalise(torch.cat(parts)), info={"models": []})


def radii(count: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    """Draws [count] from p(r) ~ r^-3 between ``low`` and ``high``, by the inverse of its distribution function."""
    import torch

    u = torch.rand(count, generator=generator)
    found: Tensor = (low**-2 - u * (low**-2 - high**-2)) ** -0.5
    return found


def paint(count: int, shape: tuple[int, int, int], params: DeadLeavesParams, generator: Generator) -> Tensor:
    """Images [count,C,H,W] of pixels in [0, 1]."""
    import torch
    from torch.nn import functional as F

    channels, height, width = shape
    tall, wide, side = _SCALE * height, _SCALE * width, _SCALE * min(height, width)
    each = (count, params.leaves)
    size = radii(each, params.radius[0] * side, params.radius[1] * side, generator)
    places = torch.rand(*each, 2, generator=generator) * torch.tensor([tall, wide])
    turn = 2 * math.pi * torch.rand(each, generator=generator)
    kind = torch.randint(len(_SIDES), each, generator=generator)
    top = _topmost(size, places, torch.tensor(_SIDES)[kind].float(), turn, (tall, wide))
    # leaf 0 is the ground: all the rest lies on it
    colour = torch.rand(count, 1 + params.leaves, channels, generator=generator)
    direction, period, strength = torch.rand(3, count, 1 + params.leaves, generator=generator)
    which = top.flatten(1)

    def seen(values: Tensor) -> Tensor:
        return values.gather(1, which).view_as(top)

    # periods from two pixels of the final image to half of its side: finer ones would be averaged away
    length = 2 * _SCALE * (side / (4 * _SCALE)) ** seen(period)
    angle = math.pi * seen(direction)
    y, x = torch.arange(tall)[:, None], torch.arange(wide)[None, :]
    grating = params.texture * seen(strength) * torch.sin(2 * math.pi * (y * angle.sin() + x * angle.cos()) / length)
    painted = torch.stack([seen(colour[:, :, c]) + grating for c in range(channels)], 1)
    images: Tensor = F.avg_pool2d(painted.clamp(0, 1), _SCALE)
    return images


def _topmost(size: Tensor, places: Tensor, sides: Tensor, turn: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Which leaf [B,H,W] is seen at each pixel: 1 for the first, 0 for none; the later hides the earlier.

    ``size`` (circumscribed radius), number of ``sides`` and ``turn`` are [B,K], ``places`` [B,K,2] rows and columns.
    Leaves of about one size are looked at together, each in a square of its own around it: most are small.
    """
    import torch

    images = len(size)
    tall, wide = canvas
    top = torch.zeros(images * tall * wide, dtype=torch.int64)
    bucket = (size.log() / math.log(1.5)).ceil().long()
    for level in bucket.unique().tolist():
        image, leaf = torch.nonzero(bucket == level, as_tuple=True)
        reach = math.ceil(1.5**level)
        near = torch.arange(-reach, reach + 1)
        y, x = (places[image, leaf].long()[:, None, :] + near[None, :, None]).unbind(-1)
        middle = places[image, leaf]
        dy, dx = (y - middle[:, :1])[:, :, None] + 0.5, (x - middle[:, 1:])[:, None, :] + 0.5
        shaped = [values[image, leaf][:, None, None] for values in (size, sides, turn)]
        hit = _within(dy, dx, *shaped)
        hit &= ((y >= 0) & (y < tall))[:, :, None] & ((x >= 0) & (x < wide))[:, None, :]
        place = image[:, None, None] * (tall * wide) + y[:, :, None] * wide + x[:, None, :]
        rank = (leaf + 1)[:, None, None].expand_as(place)
        top.scatter_reduce_(0, place[hit], rank[hit], "amax")
    return top.view(images, tall, wide)


def _within(dy: Tensor, dx: Tensor, radius: Tensor, sides: Tensor, turn: Tensor) -> Tensor:
    """Whether points (``dy``, ``dx``) [N,P,P] lie inside the regular polygon of a circumscribed circle of ``radius``
    [N,1,1] around the origin, turned by ``turn``."""
    import torch

    sector = 2 * math.pi / sides
    angle = torch.remainder(torch.atan2(dy, dx) + turn, sector) - sector / 2
    inside: Tensor = torch.hypot(dy, dx) * torch.cos(angle) <= radius * torch.cos(sector / 2)
    return inside


METHOD = DeadLeaves()
