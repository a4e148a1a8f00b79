"""A cell's compressor: one method, or several of which each takes the network the one before it made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from bench.interfaces import Compressed, Compressor, ImageSet, ModelHandle, RunContext, Setting, Variant
from bench.spec import axes
from bench.spec.resolved import ResolvedCompressor
from bench.zoo.checkpoints import digest_of, freeze

Find = Callable[[str], Compressor]


def run_steps(
    row: ResolvedCompressor,
    find: Find,
    model: ModelHandle,
    images: ImageSet,
    setting: Setting,
    ctx: RunContext,
) -> Compressed:
    """Run the row's methods in order, each asked for the part of ``setting`` it takes.

    A later step sees the network made before as its model (and so as its teacher): same name and constants, new
    weights.  Of several steps the answer holds the last one's network, bits and protocol; the earlier ones' protocols
    and reports lie under ``steps``, costs are added.

    Raises:
        NotApplicable: a method cannot take its network.
    """
    done: list[tuple[ResolvedCompressor, Compressed]] = []
    handle = model
    for step in row.chain:
        if done:
            handle = _handle(model, done[-1][1].variants[0])
        method = find(step.method)
        method.check(step.params, handle)
        made = method.compress(handle, images, axes.only(setting, step.accepts), step.params, ctx)
        done.append((step, made))
    return _joined(done, handle, setting) if len(done) > 1 else _whole(done[0][1], setting)


def _whole(made: Compressed, setting: Setting) -> Compressed:
    """The answer with what was asked filled in where a variant's own setting leaves it open."""
    variants = tuple(dataclasses.replace(one, setting=setting.joined(one.setting)) for one in made.variants)
    return dataclasses.replace(made, variants=variants)


def _handle(model: ModelHandle, variant: Variant) -> ModelHandle:
    module = freeze(variant.module)
    return dataclasses.replace(model, module=module, digest=digest_of(module.state_dict()), fp_top1=None)


def _joined(done: list[tuple[ResolvedCompressor, Compressed]], handle: ModelHandle, setting: Setting) -> Compressed:
    """One answer of several; ``handle`` is the network the last step was given."""
    last = done[-1][1]

    def earlier(facts: Callable[[Compressed], Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{"compressor": step.label, **facts(made)} for step, made in done[:-1]]

    protocols = earlier(lambda made: made.variants[0].protocol)
    variants = tuple(
        dataclasses.replace(
            variant,
            setting=setting.joined(variant.setting),
            network=variant.network or handle.module,
            protocol={**variant.protocol, "steps": protocols},
        )
        for variant in last.variants
    )
    return Compressed(
        variants,
        {**last.report, "steps": earlier(lambda made: made.report)},
        sum(made.forward_equivalents for _, made in done),
    )
