"""The recipe: train a network of the table from scratch, seeded and resumable, and write its weights and manifest.

The last epoch's weights are kept; the test set is measured once, after training.  ``holdout`` trains without 5,000
images and measures on those: that is what tuning may look at.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from bench.data.datasets import Dataset, cache_dir, get_dataset, normalise
from bench.errors import WeightsError, nearest
from bench.interfaces import DatasetSpec
from bench.zoo import weights
from bench.zoo.macs import count_macs, count_parameters
from bench.zoo.table import EPOCH_FACTOR, Network, Recipe
from bench.zoo.targets import build, find, network_names

HOLDOUT = 5000
Report = Callable[[int, int, float], None]
"""Called after each step with steps done, steps in all, loss."""


@dataclass(frozen=True)
class Job:
    """One training run: which network, on which images, under which recipe."""

    name: str
    seed: int
    recipe: Recipe
    spec: DatasetSpec
    images: Tensor
    labels: Tensor

    def identity(self) -> str:
        """SHA-256 of what decides the result; a checkpoint of another identity is not resumed."""
        data = hashlib.sha256(self.images.contiguous().numpy().tobytes()).hexdigest()
        facts = [self.name, self.seed, dataclasses.asdict(self.recipe), data, self.labels.tolist()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """The one-cycle rate: linear from a tenth to the peak in the first ``warmup`` part, then a cosine to zero."""
    rise = max(1, int(total * recipe.warmup))
    if step < rise:
        return recipe.lr * (0.1 + 0.9 * step / rise)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def augment(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Flip each image (uint8 [N,C,H,W]) with probability one half and shift it by up to ``shift`` pixels, zeros in."""
    count, _, height, width = images.shape
    flip = torch.rand(count, generator=generator) < 0.5
    down, right = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=generator)
    rows, columns = torch.arange(height)[None] + down, torch.arange(width)[None]
    columns = torch.where(flip[:, None], width - 1 - columns, columns) + right
    padded = nn.functional.pad(images, (shift,) * 4)
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    # Decay on batch-norm scales and biases only shifts the balance with the next layer; it is left out.
    decayed = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)


def _epoch(job: Job, module: nn.Module, optimizer: torch.optim.SGD, epoch: int, report: Report | None) -> None:
    recipe, count = job.recipe, len(job.labels)
    generator = torch.Generator().manual_seed(job.seed * 100_003 + epoch)
    order = torch.randperm(count, generator=generator)
    # A last batch of a few images would give batch norm noise; it is dropped, the next epoch draws anew.
    steps = max(1, count // recipe.batch)
    total = steps * recipe.epochs
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    module.train()
    for step in range(steps):
        chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
        batch = normalise(augment(job.images[chosen], recipe.shift, generator), job.spec.mean, job.spec.std)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(epoch * steps + step, total, recipe)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            logits = module(batch.contiguous(memory_format=layout))
        loss = nn.functional.cross_entropy(logits.float(), job.labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if report is not None:
            report(epoch * steps + step + 1, total, float(loss.detach()))


def _load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state if state.get("identity") == identity else None


def _save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    torch.save(state, partial)
    os.replace(partial, path)


def fit(job: Job, checkpoint: Path, report: Report | None = None, stop_after: int | None = None) -> tuple[nn.Module, float]:
    """Train ``job`` from its checkpoint on, if that is of the same job; returns the network and its seconds.

    Args:
        job: what to train on what.
        checkpoint: file written after each epoch (weights, optimizer, epoch, seconds), read with weights_only.
        report: called after each step.
        stop_after: return after that many epochs in all, as an interruption would.
    """
    module = build(job.name)
    if job.recipe.channels_last:
        module = module.to(memory_format=torch.channels_last)
    optimizer = _optimizer(module, job.recipe)
    identity, first, seconds = job.identity(), 0, 0.0
    state = _load_checkpoint(checkpoint, identity)
    if state is not None:
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = state["epoch"], state["seconds"]
    last = job.recipe.epochs if stop_after is None else min(stop_after, job.recipe.epochs)
    for epoch in range(first, last):
        began = time.perf_counter()
        _epoch(job, module, optimizer, epoch, report)
        seconds += time.perf_counter() - began
        state = {"identity": identity, "epoch": epoch + 1, "seconds": seconds}
        _save_checkpoint(checkpoint, state | {"model": module.state_dict(), "optimizer": optimizer.state_dict()})
    return module.eval(), seconds


def top1(module: nn.Module, images: Tensor, labels: Tensor, spec: DatasetSpec, batch: int = 250) -> float:
    """Top-1 in percent of an eval-mode network on uint8 images [N,C,H,W], in float32."""
    hits = 0
    module.eval()
    with torch.inference_mode():
        for start in range(0, len(labels), batch):
            part = normalise(images[start : start + batch], spec.mean, spec.std)
            hits += int((module(part).argmax(1) == labels[start : start + batch]).sum())
    return 100.0 * hits / len(labels)


def _split(dataset: Dataset, holdout: bool, limit: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images, labels = dataset.train()
    if holdout:
        # The last images of the training order: never among the shipped 10,000 of fashion_mnist.
        return images[:-HOLDOUT][:limit], labels[:-HOLDOUT][:limit], images[-HOLDOUT:], labels[-HOLDOUT:]
    return (images[:limit], labels[:limit], *dataset.test())


def train_one(
    name: str,
    dataset: Dataset,
    out: Path,
    *,
    work: Path,
    resume: bool = True,
    holdout: bool = False,
    epochs: int | None = None,
    limit: int | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train ``name`` ("dataset/stem") and write OUT/stem.safetensors and OUT/stem.json; returns the manifest.

    Args:
        name: a network of the table.
        dataset: its data set, with all training images.
        out: folder of the weights.
        work: folder of the checkpoints.
        resume: go on from the last epoch's checkpoint.
        holdout: train without the last 5,000 training images, measure on them, and write nothing to ``out``.
        epochs: other than the recipe's.
        limit: only the first images of the training order (to try things).
        report: called after each step.
    """
    key, network = find(name)
    recipe = dataclasses.replace(network.recipe, epochs=epochs or network.recipe.epochs * EPOCH_FACTOR[key])
    images, labels, test_images, test_labels = _split(dataset, holdout, limit)
    job = Job(name, network.seed, recipe, dataset.spec, images, labels)
    checkpoint = work / f"{name.replace('/', '.')}{'.holdout' if holdout else ''}.pt"
    if not resume:
        checkpoint.unlink(missing_ok=True)
    module, seconds = fit(job, checkpoint, report)
    module = module.to(memory_format=torch.contiguous_format)
    measured = top1(module, test_images, test_labels, dataset.spec)
    manifest = _manifest(job, network, module, measured, seconds)
    if holdout:
        return manifest | {"measured_on": "holdout"}
    path = out / f"{network.stem}.safetensors"
    manifest["sha256"] = weights.write_weights(path, module, name)
    again = build(name)
    weights.fill(again, weights.read_weights(path, manifest["sha256"]), path)
    manifest["top1_reload"] = top1(again, test_images, test_labels, dataset.spec)
    weights.write_manifest(out / f"{network.stem}.json", manifest)
    checkpoint.unlink(missing_ok=True)
    return manifest


def _manifest(job: Job, network: Network, module: nn.Module, measured: float, seconds: float) -> dict[str, Any]:
    return {
        "network": job.name,
        "architecture": network.architecture,
        "family": network.family,
        "role": network.role,
        "builder": network.builder,
        "kwargs": dict(network.kwargs),
        "recipe": dataclasses.asdict(job.recipe) | {"flip": True, "loss": "cross-entropy", "optimizer": "SGD-Nesterov"},
        "seed": job.seed,
        "train_images": len(job.labels),
        "top1": measured,
        "digest": weights.weights_digest(module.state_dict()),
        "parameters": count_parameters(module),
        "macs": count_macs(module, job.spec.shape),
        "mean": list(job.spec.mean),
        "std": list(job.spec.std),
        "seconds": round(seconds, 1),
        "torch": torch.__version__,
    }


def _chosen(dataset: str, only: Sequence[str]) -> list[str]:
    known = network_names(dataset)
    if not known:
        raise WeightsError(
            "the zoo has no recipe for this data set", where="zoo", got=dataset, expected=list(EPOCH_FACTOR)
        )
    full = [name if "/" in name else f"{dataset}/{name}" for name in only]
    for name in full:
        if name not in known:
            raise WeightsError("no such network", where="zoo", got=name, expected=known, nearest=nearest(name, known))
    return full or list(known)


def train(
    dataset: str,
    only: Sequence[str] = (),
    *,
    out: Path | None = None,
    data: Path | None = None,
    work: Path | None = None,
    resume: bool = True,
    holdout: bool = False,
    epochs: int | None = None,
    limit: int | None = None,
    threads: int = 1,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Train the networks of ``dataset`` one after the other, finished ones left out when resuming; their manifests.

    Args:
        dataset: a data set the zoo has recipes for.
        only: names with or without the data set; all when empty.
        out: folder of the weights; the shipped folder when None.
        data: folder of the data set's files.
        work: folder of the checkpoints; in the user's cache when None.
        resume: skip finished networks and go on with begun ones.
        holdout, epochs, limit: see `train_one`.
        threads: CPU threads.
        console: where the progress bar goes.
    """
    names = _chosen(dataset, only)
    torch.set_num_threads(threads)
    folder = out or weights.shipped_dir(dataset)
    place = work or cache_dir() / "zoo"
    loaded = get_dataset(dataset, data, full=True)
    screen = console or Console()
    done: list[dict[str, Any]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), TextColumn("loss {task.fields[loss]:.3f}"), console=screen) as bar:
        for name in names:
            path = folder / f"{name.split('/')[1]}.json"
            if resume and not holdout and path.is_file():
                done.append(weights.read_manifest(path))
                continue
            task = bar.add_task(name, total=None, loss=float("nan"))

            def report(step: int, total: int, loss: float, task: Any = task, name: str = name) -> None:
                bar.update(task, completed=step, total=total, loss=loss)
                if not screen.is_terminal and step % 100 == 0:
                    screen.print(f"{name}  step {step}/{total}  loss {loss:.3f}")

            manifest = train_one(
                name, loaded, folder, work=place, resume=resume, holdout=holdout, epochs=epochs, limit=limit, report=report
            )
            screen.print(f"{name}  top-1 {manifest['top1']:.2f} %  {manifest['seconds']:.0f} s")
            done.append(manifest)
    return done


def main(argv: Sequence[str] | None = None) -> None:
    """``python -m bench.zoo.train DATASET [--only NAME …]``."""
    parser = argparse.ArgumentParser(prog="python -m bench.zoo.train", description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--only", nargs="*", default=[])
    for flag in ("--out", "--data", "--work"):
        parser.add_argument(flag, type=Path)
    parser.add_argument("--fresh", dest="resume", action="store_false")
    parser.add_argument("--holdout", action="store_true")
    for number in ("--epochs", "--limit"):
        parser.add_argument(number, type=int)
    parser.add_argument("--threads", type=int, default=1)
    train(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
