"""DSG's slack statistics: noise images that set the bands, the layer each image enhances, the objective with both."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from methods.sources._bn_taps import Layout, Stats
from methods.sources._losses import Slack, sq_std_slack
from methods.sources._objectives import Network, SingleObjective

CHUNK = 128  # noise images per forward; bounds memory only


def noise_statistics(
    network: Network, shape: tuple[int, int, int], count: int, generator: Generator
) -> tuple[Tensor, Tensor, Layout]:
    """Mean and biased variance [K] of every batch norm's input, pooled over ``count`` N(0,1) images of (C, H, W).

    ``network`` has scope ``image``; sums are exact however the images are cut into forwards.
    """
    first: Tensor | float = 0.0
    second: Tensor | float = 0.0
    rows = 0  # of clips a frame each
    for start in range(0, count, CHUNK):
        noise = torch.randn((min(CHUNK, count - start), *shape), generator=generator).to(network.device)
        with torch.no_grad():
            stats = network(noise)[1]
        assert stats is not None  # ``check`` has seen a batch norm
        mean, var = stats.mean.double(), stats.var.double()
        first, second = first + mean.sum(0), second + (var + mean.square()).sum(0)
        rows += len(mean)
    mean = torch.as_tensor(first) / rows
    assert stats is not None
    var = (torch.as_tensor(second) / rows - mean.square()).clamp(min=0.0)
    return mean.float(), var.float(), stats.layout


def enhancement(count: int, layers: int, start: int = 0) -> Tensor:
    """Weights [count, layers]: ones, and one more for layer (start + b) mod ``layers``; rows sum to layers + 1."""
    weights = torch.ones(count, layers)
    weights[torch.arange(count), (start + torch.arange(count)) % layers] += 1.0
    return weights


class SlackObjective(SingleObjective):
    """The one-network objective with slack statistics; ``weights`` [B,L] or None are the layers' of each image."""

    slack: Slack
    weights: Tensor | None = None

    def _bn(self, stats: Stats) -> Tensor:
        return sq_std_slack(stats, self.slack, self.weights)
