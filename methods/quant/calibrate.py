"""Choosing activation ranges from what quantisers see (docs/methods/quantisation.md#calibration)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.quant.quantizers import ActQuantizer


@dataclass(frozen=True)
class Sampling:
    """How much of the data chooses the ranges.

    Attributes:
        images: the first so many.
        values: at most so many per tensor, a random subset that depends on ``seed`` only; at 4 bytes each, times the
            number of tensors, this is the memory it takes.
        batch: images at a time.
    """

    images: int = 256
    values: int = 1 << 16
    seed: int = 0
    batch: int = 64


@torch.no_grad()
def observe(
    run: Callable[[Tensor], object], inputs: Iterable[Tensor], watched: Mapping[int, ActQuantizer], sampling: Sampling
) -> None:
    """Let the ``watched`` quantisers see ``inputs`` go through ``run`` and choose their ranges for what they saw.

    Args:
        inputs: batches [B, ...], all of which are seen; the search starts from the extremes of all values.
        watched: by their place among the network's quantisers, which their draws depend on; one that ``run`` does not
            reach keeps its range.
    """
    batches = list(inputs)
    sizes = _tensor_sizes(run, batches[0][:1], watched.values())
    watched = {place: quantizer for place, quantizer in watched.items() if quantizer in sizes}
    count = sum(len(batch) for batch in batches)
    for place, quantizer in watched.items():
        share = min(1.0, sampling.values / (sizes[quantizer] * count))
        quantizer.start_observing(share, sampling.seed * 100_003 + place)
    for batch in batches:
        run(batch)
    for quantizer in watched.values():
        quantizer.calibrate()


def _tensor_sizes(
    run: Callable[[Tensor], object], image: Tensor, watched: Iterable[ActQuantizer]
) -> dict[ActQuantizer, int]:
    """Values per image each quantiser sees."""
    sizes: dict[ActQuantizer, int] = {}

    def note(quantizer: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(quantizer, ActQuantizer)
        sizes[quantizer] = args[0].numel()

    hooks = [quantizer.register_forward_pre_hook(note) for quantizer in watched]
    run(image)
    for hook in hooks:
        hook.remove()
    return sizes
