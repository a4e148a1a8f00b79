"""Clips of a video and the networks that look at them frame by frame (docs/architecture.md#clips).  Imported by itself,
as it needs torch.

A clip of N frames is one image of N·C channels, frame after frame: what treats each channel alike (normalising,
flipping, cropping, storing) treats all frames alike.  Inside a network of clips the frames are rows: a tensor of B
clips has B·N of them there, those of a clip beside each other.
"""

from __future__ import annotations

from torch import Tensor, nn


class Clips(nn.Module):
    """``net``, a network of single frames [B, C, H, W], on clips [B, N·C, H, W] of ``frames`` frames: the mean of the
    frames' logits (Wang et al., "Temporal Segment Networks", ECCV 2016, eq. 1 with averaging as consensus).

    The order of the frames does not matter to it.
    """

    def __init__(self, net: nn.Module, frames: int) -> None:
        super().__init__()
        self.net, self.frames = net, frames

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K]."""
        logits: Tensor = self.net(frames_of(x, self.frames)).unflatten(0, (-1, self.frames)).mean(1)
        return logits


def for_clips(net: nn.Module, frames: int) -> nn.Module:
    """``net`` itself where samples are images (``frames`` 1), else on clips."""
    return net if frames == 1 else Clips(net, frames)


def frames_of(clips: Tensor, frames: int) -> Tensor:
    """The frames [B·N, C, H, W] of clips [B, N·C, H, W], those of a clip beside each other."""
    found: Tensor = clips.unflatten(1, (frames, -1)).flatten(0, 1)
    return found


def by_sample(values: Tensor, samples: int) -> Tensor:
    """What was read inside a network for each row, for each of the ``samples`` it was given: of clips the mean over a
    clip's frames [B·N, ...] -> [B, ...], of images the very tensor."""
    return values if len(values) == samples else values.unflatten(0, (samples, -1)).mean(1)
