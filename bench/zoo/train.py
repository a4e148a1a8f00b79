"""The zoo's recipe: full training set, seeded, resumable, last epoch's weights, nothing selected on the test set.

SGD with Nesterov momentum 0.9 and weight decay 5e-4 (none on norms and biases; where the table says so AdamW with decay
0.05, as is usual for transformers and ConvNeXt), batch 128, label smoothing 0.05, gradient norm clipped at 5, in two
cycles of the learning rate (each a linear warm-up over its first fifth and a cosine to 0).  The first sees the images
as they are, flipped or not; the second, at half the rate, sees views of them: shifted, scaled, brighter, darker,
flipped (`bench.zoo.augment`).  Sources look at their images through such views, and a network's statistics can be met
only by what it was trained on.  Views from the start would cost a short training more: in four epochs of a ResNet-18 a
shift of up to two pixels cost 1.7 points on the 5,000 images held out for tuning (89.4 against 91.1).
"""

from __future__ import annotations

import math
import os
import pickle
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import DataError, WeightsError
from bench.zoo.augment import Seen, Views
from bench.zoo.table import Entry

BATCH = 128
EVAL_BATCH = 500
WEIGHT_DECAY = {"sgd": 5e-4, "adamw": 0.05}
SMOOTHING = 0.05
WARM_UP = 0.2
CLIP = 5.0

Report = Callable[[int, int, float], None]


@dataclass(frozen=True)
class TrainData:
    """Training images uint8 [N,C,H,W], labels int64 [N], the constants (per channel) they are normalised with, and the
    frames of a clip where they are clips."""

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    frames: int = 1

    @property
    def batch(self) -> int:
        """Samples of a step."""
        return batch_of(self.frames)

    def normalise(self, images: Tensor) -> Tensor:
        """Values 0..255 [B,C,H,W], of any type, to normalised float32 of the same shape."""
        return _normalise(images, self.mean, self.std)


def _normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    shape = (1, -1, 1, 1)
    centre = torch.tensor(mean, device=images.device).view(shape) * 255
    return (images.float() - centre) / (torch.tensor(std, device=images.device).view(shape) * 255)


@dataclass(frozen=True)
class Cycle:
    """One cycle of the learning rate: epochs, its peak, and what the images go through (None: flips alone)."""

    epochs: int
    lr: float
    views: Views | None


def cycles(entry: Entry) -> tuple[Cycle, Cycle]:
    """The recipe's two cycles."""
    return Cycle(entry.epochs, entry.lr, None), Cycle(entry.view_epochs, entry.lr / 2, Views())


def autocast(entry: Entry) -> bool:
    """Whether training runs under bfloat16 autocast: where the entry asks and the CPU computes in it.  On one that
    emulates it (no AVX-512), a step of a ResNet-18 takes nine times as long."""
    return entry.bf16 and torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


def batch_of(frames: int) -> int:
    """Samples of a step: of clips as many as have BATCH frames."""
    return max(1, BATCH // frames)


def recipe(entry: Entry, frames: int = 1) -> dict[str, Any]:
    """The hyper-parameters of ``entry`` as they go into its manifest; ``frames`` of a clip."""
    return {
        "optimiser": {"sgd": "sgd nesterov 0.9", "adamw": "adamw 0.9 0.999"}[entry.optimiser],
        "batch": batch_of(frames),
        "cycles": [
            {"epochs": c.epochs, "lr": c.lr, "augment": c.views.facts() if c.views else {"flip": 0.5}}
            for c in cycles(entry)
        ],
        "schedule": f"one-cycle each, linear warm-up {WARM_UP}, cosine to 0",
        "weight_decay": WEIGHT_DECAY[entry.optimiser],
        "label_smoothing": SMOOTHING,
        "gradient_clip": CLIP,
        "autocast": "bfloat16" if autocast(entry) else "none",
        "memory_format": "channels_last",
    }


def learning_rate(step: int, total: int, peak: float) -> float:
    """One cycle: linear from 0 to ``peak`` over the first fifth, then half a cosine to 0; ``step`` in 0..total-1."""
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step + 1 - warm) / (total - warm)))


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    flip = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(flip, images.flip(3), images)


def _optimiser(entry: Entry, module: nn.Module, lr: float) -> torch.optim.Optimizer:
    decay = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": WEIGHT_DECAY[entry.optimiser]}, {"params": plain, "weight_decay": 0.0}]
    if entry.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)


def _save(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def fit(
    entry: Entry,
    module: nn.Module,
    data: TrainData,
    *,
    first: int = 0,
    checkpoint: Path | None = None,
    stop_after: int | None = None,
    report: Report | None = None,
) -> float:
    """Train ``module`` in place by the recipe; returns the seconds spent, those before a resume included.

    Args:
        first: cycle to begin with; 1 where ``module`` has been through cycle 0.
        checkpoint: file to resume from and to write after every epoch; an interrupted run that is resumed equals an
            uninterrupted one bit by bit at the same thread count.
        stop_after: leave after that many epochs in all (the schedule stays that of all epochs).
        report: called with (steps done, steps in all, loss) every 20 steps.
    """
    module.to(memory_format=torch.channels_last).train()
    if len(data.images) < data.batch:
        raise DataError("fewer training images than a batch", got=len(data.images), expected=f"at least {data.batch}")
    todo = [(cycle, epoch) for cycle in cycles(entry)[first:] for epoch in range(cycle.epochs)]
    done, seconds = 0, 0.0
    identity = f"{entry}|{first}|{len(data.images)}|{int(data.labels.sum())}"
    optimiser = _optimiser(entry, module, entry.lr)
    if checkpoint is not None and checkpoint.exists():
        state = _resume(checkpoint, identity)
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        done, seconds = state["epoch"], state["seconds"]
    batches = len(data.images) // data.batch

    def tell(step: int, loss: float, before: int) -> None:
        if report is not None:
            report(before * batches + step, len(todo) * batches, loss)

    for index in range(done, min(len(todo), stop_after or len(todo))):
        cycle, epoch = todo[index]
        if epoch == 0:
            optimiser = _optimiser(entry, module, cycle.lr)
        began = time.perf_counter()
        _epoch(entry, module, data, optimiser, todo[index], partial(tell, before=index))
        seconds += time.perf_counter() - began
        if checkpoint is not None:
            state = {"module": module.state_dict(), "optimiser": optimiser.state_dict()}
            _save(checkpoint, {**state, "epoch": index + 1, "seconds": seconds, "identity": identity})
    module.eval()
    return seconds


def _resume(checkpoint: Path, identity: str) -> dict[str, Any]:
    """The state of an interrupted training.

    Raises:
        WeightsError: the file is damaged, or belongs to another recipe or data set.
    """
    try:
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        found = state["identity"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, struct.error, pickle.UnpicklingError) as error:
        hint = "delete it to start over"
        raise WeightsError("the checkpoint is damaged", where=str(checkpoint), got=error, hint=hint) from error
    if found != identity:
        hint = "delete it to start over"
        raise WeightsError("the checkpoint is of another recipe or data set", where=str(checkpoint), hint=hint)
    return state


def _epoch(
    entry: Entry,
    module: nn.Module,
    data: TrainData,
    optimiser: torch.optim.Optimizer,
    place: tuple[Cycle, int],
    tell: Callable[[int, float], None],
) -> None:
    cycle, epoch = place
    # Seeded by network seed, cycle and epoch, so that a resumed run draws what an uninterrupted one would have drawn.
    seed = 1_000_003 * (entry.seed + 1) + epoch + (500_000 if cycle.views else 0)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data.images), generator=generator)
    batches = len(order) // data.batch
    total = cycle.epochs * batches
    for index in range(batches):
        picks = order[index * data.batch : (index + 1) * data.batch]
        seen, labels = _views(data, picks, cycle, generator), data.labels[picks]
        images = seen.images.contiguous(memory_format=torch.channels_last)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(epoch * batches + index, total, cycle.lr)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast(entry)):
            logits = module(images)
        loss = _loss(logits.float(), labels, seen)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimiser.step()
        if index % 20 == 0 or index == batches - 1:
            tell(index + 1, loss.item())


def _loss(logits: Tensor, labels: Tensor, seen: Seen) -> Tensor:
    """Cross entropy of logits [B,K] to the labels [B], a pasted image's label weighing its share of the area."""
    if not bool(seen.share.any()):
        return F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
    own, guest = (
        F.cross_entropy(logits, wanted, label_smoothing=SMOOTHING, reduction="none")
        for wanted in (labels, labels[seen.partner])
    )
    return torch.lerp(own, guest, seen.share).mean()


def _views(data: TrainData, picks: Tensor, cycle: Cycle, generator: torch.Generator) -> Seen:
    """Normalised views of the images ``picks``."""
    if cycle.views is None:
        images = _flip(data.normalise(data.images[picks]), generator)
        return Seen(images, torch.arange(len(images)), torch.zeros(len(images)))
    seen = cycle.views(data.images[picks].float() / 255, generator)
    return replace(seen, images=data.normalise(seen.images * 255))


def top1(
    module: nn.Module, data: Iterable[tuple[Tensor, Tensor]], mean: tuple[float, ...], std: tuple[float, ...]
) -> float:
    """Top-1 in percent of ``module`` (put into eval mode), float32, over batches of images uint8 [B,C,H,W], normalised
    by ``mean`` and ``std``, and labels [B]."""
    module.eval()
    right, count = 0, 0
    with torch.inference_mode():
        for images, labels in data:
            right += int((module(_normalise(images, mean, std)).argmax(1) == labels).sum())
            count += len(labels)
    return 100.0 * right / count
