"""How long a network takes; a measurement of this machine at this moment, so it belongs into reports only."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP = 3


@torch.inference_mode()
def latency(networks: Mapping[str, nn.Module], image: Tensor, runs: int, batches: tuple[int, ...]) -> dict[str, Any]:
    """Milliseconds of a forward pass, median and 90th percentile over ``runs``, per network and batch size.

    The networks take turns, so that other load on the machine meets them alike.  Memory is channels_last; ``image`` is
    [1, C, H, W] on the networks' device, threads are as the process has them.
    """
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "runs": runs}
    ready = {name: net.to(memory_format=torch.channels_last) for name, net in networks.items()}
    for batch in batches:
        x = image.expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        times: dict[str, list[float]] = {name: [] for name in ready}
        for _ in range(WARM_UP + runs):
            for name, net in ready.items():
                begin = time.perf_counter()
                # reading one value waits for the device
                net(x).flatten()[0].item()
                times[name].append(1e3 * (time.perf_counter() - begin))
        for name, taken in times.items():
            kept = sorted(taken[WARM_UP:])
            p90 = kept[min(len(kept) - 1, int(0.9 * len(kept)))]
            found.setdefault(name, {})[f"batch_{batch}"] = {"median_ms": statistics.median(kept), "p90_ms": p90}
    return found
