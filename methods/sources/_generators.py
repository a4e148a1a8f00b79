"""Networks that make images from latents: DAFL's body, with or without a class in its input or in its batch norms.

Body (DAFL; taken over by GDFQ and Qimera): linear to w x H/4 x W/4, batch norm, x2 nearest, conv w, batch norm,
LeakyReLU 0.2, x2 nearest, conv w/2, batch norm, LeakyReLU 0.2, conv to the image's channels, tanh, batch norm without
affine; w is 128 as published.  Images come out in normalised space, about (0, 1) per channel.  Every batch norm uses
the batch at hand, also when sampling, so images are to be made in batches as large as those of the training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

SLOPE = 0.2


@dataclass(frozen=True)
class Codes:
    """What one batch of images is made from.

    Latents ``z`` [B,K,D], one per slot or (K = 1) one for all; ``classes`` [B,K] int64 the class of each slot, None
    for a generator without classes; ``shares`` [B,K] the weight of each slot, rows sum to 1, None for a single class.
    """

    z: Tensor
    classes: Tensor | None = None
    shares: Tensor | None = None

    def soft(self, count: int) -> Tensor:
        """Label rows [B,count]: the slots' shares, added up where a class fills several slots."""
        assert self.classes is not None
        shares = torch.ones_like(self.z[:, :, 0]) if self.shares is None else self.shares
        return shares.new_zeros(len(shares), count).scatter_add(1, self.classes, shares)

    def labels(self, count: int) -> Tensor:
        """The class with the largest share [B]."""
        if self.shares is None and self.classes is not None:
            return self.classes[:, 0]
        return self.soft(count).argmax(1)

    def to(self, device: torch.device) -> Codes:
        """The same on a device."""
        classes, shares = self.classes, self.shares
        return Codes(
            self.z.to(device),
            None if classes is None else classes.to(device),
            None if shares is None else shares.to(device),
        )


def batch_norm(channels: int, eps: float = 1e-5, *, affine: bool = True) -> nn.BatchNorm2d:
    """Normalisation by the batch in train and eval mode alike."""
    return nn.BatchNorm2d(channels, eps, affine=affine, track_running_stats=False)


class ClassNorm(nn.Module):
    """Batch norm whose scale (1 at first) and shift (0) belong to classes; a superposed image has the weighted sum.

    The sum, not the mean over slots as in Qimera's code, which shrinks the parameters by the number of slots.
    """

    def __init__(self, channels: int, classes: int, eps: float) -> None:
        super().__init__()
        self.norm = batch_norm(channels, eps, affine=False)
        self.scale = nn.Parameter(torch.ones(classes, channels))
        self.shift = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """``x`` [B,C,H,W] with label rows ``shares`` [B,classes]."""
        scale, shift = (shares @ table for table in (self.scale, self.shift))
        return self.norm(x) * scale[:, :, None, None] + shift[:, :, None, None]  # type: ignore[no-any-return]


class Body(nn.Module):
    """Latent [B,inputs] to images [B,C,H,W]; with ``classes``, the three inner batch norms are per class."""

    def __init__(
        self, inputs: int, shape: tuple[int, int, int], width: int, eps: float, generator: Generator, classes: int = 0
    ) -> None:
        super().__init__()
        channels, height, width_px = shape
        self.sizes = [(math.ceil(height / k), math.ceil(width_px / k)) for k in (4, 2, 1)]
        self.width, self.classes, narrow = width, classes, max(1, width // 2)
        self.linear = skip_init(nn.Linear, inputs, width * math.prod(self.sizes[0]))
        pairs = ((width, width), (width, narrow), (narrow, channels))
        self.convs = nn.ModuleList(skip_init(nn.Conv2d, i, o, 3, padding=1) for i, o in pairs)
        # as published: the epsilon of the two norms behind convolutions is 0.8, that of the first is not
        norms = ((width, 1e-5), (width, eps), (narrow, eps))
        self.norms = nn.ModuleList(ClassNorm(c, classes, e) if classes else batch_norm(c, e) for c, e in norms)
        self.last = batch_norm(channels, affine=False)
        for layer in (self.linear, *self.convs):
            _init(layer, generator)
        pixels = [math.prod(size) for size in (*self.sizes[1:], self.sizes[2])]
        self.macs = inputs * width * math.prod(self.sizes[0]) + sum(
            9 * i * o * n for (i, o), n in zip(pairs, pixels, strict=True)
        )
        """Multiply-accumulates of one image."""
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Tensor, shares: Tensor | None = None) -> Tensor:
        """Images; ``shares`` [B,classes] with class norms only."""
        x = self.linear(z).view(len(z), self.width, *self.sizes[0]).contiguous(memory_format=torch.channels_last)
        x = self._normed(0, x, shares)
        for i in (0, 1):
            x = self.convs[i](F.interpolate(x, self.sizes[i + 1], mode="nearest"))
            x = F.leaky_relu(self._normed(i + 1, x, shares), SLOPE)
        images: Tensor = self.last(torch.tanh(self.convs[2](x)))
        return images

    def _normed(self, index: int, x: Tensor, shares: Tensor | None) -> Tensor:
        out: Tensor = self.norms[index](x, shares) if self.classes else self.norms[index](x)
        return out


def _init(layer: nn.Module, generator: Generator) -> None:
    """PyTorch's own start values, drawn from ``generator``: weight and bias from U(-1/sqrt(fan in), 1/sqrt(fan in))."""
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    bound = 1.0 / math.sqrt(weight[0].numel())
    nn.init.uniform_(weight, -bound, bound, generator=generator)
    nn.init.uniform_(bias, -bound, bound, generator=generator)


Entry = Literal["plain", "product", "superposed"]


class ImageGenerator(nn.Module):
    """Codes to images: an entry that makes one latent of each image's slots, then the body.

    Entries: ``plain`` z; ``product`` sum_k c_k embed(y_k) * z, of one class embed(y) * z (GDFQ at 32 pixels);
    ``superposed`` sum_k c_k LN(embed(y_k) + z_k) with LN the standardisation over the embedding's axis (Qimera).  Where
    there is one latent for all slots, z_k is that one.  ``embedding`` [K,D] is learned along.
    """

    def __init__(self, body: Body, entry: Entry = "plain", embedding: Tensor | None = None) -> None:
        super().__init__()
        self.body, self.entry = body, entry
        self.embedding = None if embedding is None else nn.Parameter(embedding.clone())
        assert (embedding is None) == (entry == "plain")

    def forward(self, codes: Codes) -> Tensor:
        """Images [B,C,H,W] in normalised space."""
        shares = codes.soft(self.body.classes) if self.body.classes else None
        images: Tensor = self.body(self.latent(codes), shares)
        return images

    def latent(self, codes: Codes) -> Tensor:
        """What enters the body [B,D]."""
        if self.embedding is None:
            return codes.z[:, 0]
        assert codes.classes is not None
        embedded = self.embedding[codes.classes]
        if self.entry == "product":
            if codes.shares is None:
                return (embedded * codes.z)[:, 0]
            return torch.einsum("bk,bkd->bd", codes.shares, embedded) * codes.z[:, 0]
        slots = F.layer_norm(embedded + codes.z, embedded.shape[-1:])
        return slots[:, 0] if codes.shares is None else torch.einsum("bk,bkd->bd", codes.shares, slots)
