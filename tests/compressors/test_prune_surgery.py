"""Channels are taken out of what holds parameters of them too, or the answer names the layer that does not allow it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces import ImageSet, Setting
from tests.compressors.prune_toys import compress, layers
from tests.compressors.recon_toys import Residual, handle, image_set
from tests.quant.nets import seeded


def conv(inputs: int, outputs: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


class Body(nn.Module):
    """Layers between 3 and 20 channels, the mean over space and a linear head."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(*layers), nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).mean((2, 3)))
        return out


def affine(net: nn.Module) -> nn.Module:
    """Every parameter that lies along channels drawn at random: as initialised, gammas are 1 and shifts 0."""
    generator = torch.Generator().manual_seed(0)
    for part in net.modules():
        if isinstance(part, nn.GroupNorm | nn.InstanceNorm2d | nn.PReLU):
            for value in part.parameters():
                value.data.uniform_(0.5, 1.5, generator=generator)
    return net


BETWEEN: dict[str, tuple[Callable[[], tuple[nn.Module, ...]], int]] = {
    "four groups of five": (lambda: (nn.GroupNorm(4, 20), nn.ReLU()), 15),
    "ten groups of two": (lambda: (nn.GroupNorm(10, 20), nn.ReLU()), 14),
    "no parameters": (lambda: (nn.GroupNorm(10, 20, affine=False), nn.ReLU()), 14),
    "instances": (lambda: (nn.InstanceNorm2d(20, affine=True), nn.ReLU()), 14),
    "one slope": (lambda: (nn.PReLU(),), 14),
    "a slope a channel": (lambda: (nn.PReLU(20),), 14),
    "before a depthwise layer": (
        lambda: (nn.GroupNorm(4, 20), nn.ReLU(), conv(20, 20, groups=20), nn.GroupNorm(10, 20)),
        10,
    ),
    "before a grouped layer": (lambda: (nn.GroupNorm(10, 20), nn.ReLU(), conv(20, 20, groups=2), nn.PReLU(20)), 12),
    "transposed": (lambda: (nn.ReLU(), nn.ConvTranspose2d(20, 20, 2, 2), nn.BatchNorm2d(20), nn.ReLU()), 14),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_holds_parameters_of_the_channels_loses_them_too(name: str) -> None:
    """Of 20 channels 6 are asked for; whole normalisation groups and equal parts of grouped layers round that."""
    middle, left = BETWEEN[name]
    model = handle(seeded(lambda: affine(Body(conv(3, 20), *middle(), conv(20, 20)))))
    out = compress(model, image_set(), Setting(sparsity=0.3), mask_iterations=0, weight_iterations=0)
    kept = out.report["channels"]
    assert kept["body.0"] == [left, 20]
    net = out.variants[0].module
    norms, old_norms = ([m for m in root.modules() if isinstance(m, nn.GroupNorm)] for root in (net, model.module))
    for part, old in zip(norms, old_norms, strict=True):
        assert part.num_channels == left
        assert part.num_channels / part.num_groups == old.num_channels / old.num_groups
    learned = compress(model, image_set(), Setting(sparsity=0.3), lr=1e-3).variants[0].module
    assert learned(image_set(seed=1).images).isfinite().all()
    assert [len(part.weight) for part in layers(learned).values()] == [count for count, _ in kept.values()]


class Scaled(Body):
    """A bare parameter for each channel."""

    def __init__(self) -> None:
        super().__init__(conv(3, 20))
        self.scale = nn.Parameter(torch.rand(20, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head((self.body(x) * self.scale).mean((2, 3)))
        return out


class Reshaped(Body):
    """The number of channels is written down."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).reshape(-1, 20, 64).mean(2))
        return out


class Attending(Body):
    """Heads over the channels."""

    def __init__(self) -> None:
        super().__init__(conv(3, 20))
        self.attention = nn.MultiheadAttention(20, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x).flatten(2).mT
        out: Tensor = self.head(self.attention(x, x, x)[0].mean(1))
        return out


class Concatenated(nn.Module):
    """A grouped layer, or a normalisation, over what two layers give."""

    def __init__(self, over: nn.Module) -> None:
        super().__init__()
        self.one, self.two, self.over, self.head = conv(3, 6), conv(3, 10), over, nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.over(torch.cat([self.one(x), self.two(x)], 1)).mean((2, 3)))
        return out


class DualPath(nn.Module):
    """A part of each layer's channels is added to one path, the rest appended to the other (DPN)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 20)
        self.layers = nn.ModuleList(conv(width, 16) for width in (20, 24, 28))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        added, appended = x[:, :12], x[:, 12:]
        for layer in self.layers:
            y = layer(torch.cat([added, appended], 1)).relu()
            added, appended = added + y[:, :12], torch.cat([appended, y[:, 12:]], 1)
        out: Tensor = self.head(torch.cat([added, appended], 1).mean((2, 3)))
        return out


STUCK: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "one group": (lambda: Body(conv(3, 20), nn.GroupNorm(1, 20), conv(20, 20)), r"body\.1 \(GroupNorm\) normalises"),
    "layer": (lambda: Body(conv(3, 20), nn.LayerNorm([20, 8, 8]), conv(20, 20)), r"body\.1 \(LayerNorm\) is tied"),
    "grouped and transposed": (
        lambda: Body(conv(3, 20), nn.ConvTranspose2d(20, 20, 2, 2, groups=4), conv(20, 20)),
        r"body\.1 \(ConvTranspose2d\) is transposed and grouped",
    ),
    "groups over a concatenation": (lambda: Concatenated(nn.GroupNorm(4, 16)), r"over \(GroupNorm\) normalises"),
    "parts of a concatenation": (lambda: Concatenated(conv(16, 16, groups=2)), r"over \(Conv2d\) is grouped"),
    "a bare parameter": (lambda: Scaled(), r"scale \(Parameter\) is tied"),
    "two paths": (lambda: DualPath(), r"stem: .*[\s\S]*fewer channels than the library counts"),
    "heads": (lambda: Attending(), r"attention \(MultiheadAttention\) is tied"),
    "a written number": (lambda: Reshaped(conv(3, 20)), r"^behind body.*cannot run"),
    "a shuffle": (
        lambda: Body(conv(3, 20), nn.ChannelShuffle(4), conv(20, 20)),
        r"^body\.1 \(ChannelShuffle\).*cannot run",
    ),
    "zero does not stay zero": (
        lambda: Body(conv(3, 20), nn.Sigmoid(), conv(20, 20)),
        r"^input of body\.2: masked channels",
    ),
    "gates of channels": (lambda: Body(conv(3, 40), nn.GLU(1), conv(20, 20)), r"body\.2.*(cannot run|still act)"),
    "no scale to mask": (
        lambda: Body(conv(3, 20), nn.ReLU(), nn.BatchNorm2d(20, affine=False), conv(20, 20)),
        r"^input of body\.3: masked channels still act",
    ),
}


@pytest.mark.parametrize("name", STUCK)
def test_what_cannot_lose_channels_is_not_applicable_and_says_the_layer(name: str) -> None:
    build, says = STUCK[name]
    net = seeded(build)
    with pytest.raises(NotApplicable, match=says) as caught:
        compress(handle(net), image_set(), Setting(sparsity=0.3), mask_iterations=0, weight_iterations=0)
    assert "mode mask" in str(caught.value)
    compress(handle(net), image_set(), Setting(sparsity=0.3), mode="mask", mask_iterations=0, weight_iterations=0)


def test_the_comparison_does_not_rest_on_the_images_that_were_given() -> None:
    """On black images without biases every network gives zeros, masked or not."""
    net = seeded(lambda: Body(conv(3, 20, bias=False), nn.Hardsigmoid(), conv(20, 20)))
    black = ImageSet(torch.zeros(8, 3, 8, 8), None, None, "none", "0", "0")
    with pytest.raises(NotApplicable, match="masked channels still act"):
        compress(handle(net), black, Setting(sparsity=0.3), mask_iterations=0, weight_iterations=0)


@pytest.mark.parametrize("bound", ["MOST", "MOST_STEPS"])
def test_groups_that_grow_without_end_are_not_applicable(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks whose reshapes fold channels into positions fill the library's memory, or its hours; bounds are lowered
    here, as the smallest such network takes gigabytes."""
    from torch_pruning.dependency import graph as library

    from methods.compressors import _channels

    net, before = Residual().eval(), library.Group
    assert _channels.find_groups(net, image_set().images[:1], list(layers(net)), [])
    monkeypatch.setattr(_channels, bound, 2)
    with pytest.raises(NotApplicable, match="tie channels to positions"):
        _channels.find_groups(net, image_set().images[:1], list(layers(net)), [])
    assert library.Group is before
