"""The way of the pruning compressors from a request to a pruned network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bench.errors import NotApplicable
from bench.interfaces import Compressed, ImageSet, ModelHandle, RunContext, Setting, Variant
from methods.compressors._latency import latency
from methods.compressors._masked import Folded, folded_copy, layer_of
from methods.compressors._masks import Selection
from methods.compressors._prune import Pruning, Row
from methods.compressors._pruner import PruneParams
from methods.quant.trace import TraceError

LATENCY_BATCHES = (1, 64)


@dataclass(frozen=True)
class Plan:
    """What is pruned: a rule, what the protocol says of it, and how masked channels are taken out, where they are."""

    selection: Selection
    protocol: Mapping[str, Any]
    shrink: Callable[[Pruning], nn.Module] | None = None


def folded(model: ModelHandle, example: Tensor, params: PruneParams) -> Folded:
    """A folded copy of the network.

    Raises:
        NotApplicable: it cannot be traced.
    """
    try:
        return folded_copy(model.module, example, params.max_layers)
    except TraceError as error:
        raise NotApplicable("the network cannot be traced", where=model.name, got=str(error)) from error


def prunable(work: Folded, params: PruneParams, *, outputs: bool) -> tuple[str, ...]:
    """Layers to prune in order of execution; without ``outputs`` the last layer's stay."""
    edges = {work.order[0], work.order[-1]} if params.skip_first_last else set()
    edges |= set() if outputs else {work.order[-1]}
    return tuple(name for name in work.order if name not in edges)


def compress(
    work: Folded, plan: Plan, images: ImageSet, setting: Setting, params: PruneParams, ctx: RunContext
) -> Compressed:
    """Prune ``work`` by ``plan`` on ``images`` and describe the result.

    Raises:
        NotApplicable: nothing would be removed, or ``plan`` cannot take the masked channels out.
    """
    data = images.images.to(ctx.device, ctx.dtype)
    before = deepcopy(work.net)
    pruning = Pruning(work, plan.selection, data, params.schedule(), ctx)
    if pruning.empty:
        raise _nothing(pruning, setting)
    if plan.shrink is not None:
        plan.shrink(pruning)  # whether it can be done is known before anything is learned
    rows = pruning.run()
    net = plan.shrink(pruning) if plan.shrink is not None else work.net
    net.eval().requires_grad_(False)
    nonzero = {} if plan.shrink is not None else weights_left(work)
    report = {**summary(rows), **sizes(before, net, work.order, pruning)}
    if params.latency_runs:
        pair = {"before": deepcopy(before), "after": deepcopy(net)}
        report["latency"] = latency(pair, data[:1], params.latency_runs, LATENCY_BATCHES)
    facts = {"sparsity": setting.sparsity, "first_last_whole": params.skip_first_last, "batch_norm": "folded"}
    bits = {"weight_bits": setting.weight_bits, "activation_bits": setting.act_bits}
    protocol = {**plan.protocol, **facts, **bits}
    variant = Variant(setting, net, network=net, nonzero=nonzero, protocol=protocol)
    return Compressed((variant,), report, cost(params, len(data)))


def _nothing(pruning: Pruning, setting: Setting) -> NotApplicable:
    """A row that says what was asked and shows the network as it was must not be."""
    if pruning.smallest is None:
        return NotApplicable("no layer of this network may lose anything", hint="See the compressor's options.")
    return NotApplicable(
        "so small a ratio removes nothing", got=setting.sparsity, expected=f"more than {pruning.smallest:.3g}"
    )


def weights_left(work: Folded) -> dict[str, int]:
    """{layer: weights that are not zero}."""
    return {name: int(layer_of(work.net, name).weight.count_nonzero()) for name in work.order}


def summary(rows: list[Row]) -> dict[str, Any]:
    """Counts over the units: learned, pruned in one shot, degraded."""
    learnable = [row for row in rows if row["layers"]]
    return {
        "units": rows,
        "learned": sum(row["kept"] == "learned" for row in learnable),
        "kept": sum(row["kept"] != "learned" for row in learnable),
        "degraded": sum(row["degraded"] for row in learnable),
    }


def sizes(before: nn.Module, after: nn.Module, order: tuple[str, ...], pruning: Pruning) -> dict[str, Any]:
    """Parameters before and after, sparsity per layer and in all, filters kept, masks that changed."""
    sparsity, kept, left, total = {}, {}, 0, 0
    for name in order:
        old, new = layer_of(before, name).weight, layer_of(after, name).weight
        nonzero = int(new.count_nonzero())
        left, total = left + nonzero, total + old.numel()
        sparsity[name] = 1.0 - nonzero / old.numel()
        kept[name] = [int(new.flatten(1).any(1).sum()), len(old)]
    return {
        "parameters": {"before": _scalars(before), "after": _scalars(after), "nonzero": _nonzero(after)},
        "sparsity": sparsity,
        "global_sparsity": 1.0 - left / max(total, 1),
        "channels": kept,
        "mask_swaps": pruning.swaps(),
    }


def _scalars(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def _nonzero(net: nn.Module) -> int:
    return sum(int(p.count_nonzero()) for p in net.parameters())


def cost(params: PruneParams, images: int) -> float:
    """Forward passes of one image through the network, a backward counting as one; caches and checks included."""
    learned = 2.0 * min(params.batch, images) * (params.mask_iterations + params.weight_iterations)
    checks = 4 + (5 if params.mask_iterations else 0)
    return learned + float(checks * images)
