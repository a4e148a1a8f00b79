"""`bench zoo train` and `bench zoo verify`: train the table's networks, measure them, write or check manifests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.data.datasets import Dataset, get_dataset, whole
from bench.errors import DataError
from bench.interfaces.clips import Clips, for_clips, frames_of
from bench.zoo import checkpoints
from bench.zoo.macs import network_facts
from bench.zoo.small import BUILDERS
from bench.zoo.table import TABLE, Entry, entry
from bench.zoo.train import EVAL_BATCH, Report, TrainData, fit, recipe, top1

Log = Callable[[str, int, int, float], None]


def build_entry(item: Entry, dataset: Dataset) -> torch.nn.Module:
    """The untrained network of ``item`` for the data set's channels, classes and frames, seeded by the entry."""
    with torch.random.fork_rng(devices=[]):  # timm's and torchvision's initialisers draw from the global generator
        torch.manual_seed(20_211 + item.seed)
        spec = dataset.spec
        return for_clips(BUILDERS[item.builder](spec.classes, spec.channels, **item.kwargs), spec.frames)


def _measured(module: torch.nn.Module, dataset: Dataset) -> float:
    """Top-1 in percent on the test set."""
    return top1(module, dataset.test_batches(size=EVAL_BATCH), dataset.spec.mean, dataset.spec.std)


def _one_frame(module: torch.nn.Module, dataset: Dataset) -> dict[str, float]:
    """Of a network of clips its top-1 in percent on single frames, the mean over the frames of every test clip."""
    if not isinstance(module, Clips):
        return {}
    spec, count = dataset.spec, module.frames
    frames = (
        (frames_of(clips, count), labels.repeat_interleave(count))
        for clips, labels in dataset.test_batches(size=max(1, EVAL_BATCH // count))
    )
    return {"top1_one_frame": top1(module.net, frames, spec.mean[: spec.channels], spec.std[: spec.channels])}


def train_one(
    item: Entry,
    dataset: Dataset,
    out: Path,
    *,
    holdout: int = 0,
    start: Path | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train one network and write its weights and manifest to ``out``; an existing checkpoint is resumed.

    ``start`` is a folder with the weights that the recipe's first cycle ended in: the second begins there. ``holdout``
    keeps the last images of the training set for tuning and measures there instead of the test set;
    weights trained so are not written. Returns the manifest (or the tuning result).
    """
    module = build_entry(item, dataset)
    begun: dict[str, Any] = {}
    if start is not None:
        before = checkpoints.manifest(start, item.name)
        checkpoints.load_into(module, start / f"{item.name}.safetensors", before["sha256"])
        begun = {"first_cycle": {key: before.get(key) for key in ("sha256", "seconds", "torch", "recipe", "top1")}}
    first = 1 if start is not None else 0
    spec = dataset.spec
    data = TrainData(*whole(dataset.full_train(), item.seed), spec.mean, spec.std, spec.frames)
    if holdout:
        if holdout >= len(data.images):
            raise DataError("more held out than there is", got=holdout, expected=f"below {len(data.images)}")
        held = zip(data.images[-holdout:].split(EVAL_BATCH), data.labels[-holdout:].split(EVAL_BATCH), strict=True)
        data = replace(data, images=data.images[:-holdout], labels=data.labels[:-holdout])
        seconds = fit(item, module, data, first=first, report=report)
        return {"name": item.name, "holdout_top1": top1(module, held, data.mean, data.std), "seconds": seconds}
    checkpoint = out / f"{item.name}.checkpoint"
    out.mkdir(parents=True, exist_ok=True)
    seconds = fit(item, module, data, first=first, checkpoint=checkpoint, report=report)
    facts: dict[str, Any] = {
        "dataset": dataset.spec.name,
        "architecture": item.architecture,
        "family": item.family,
        "seed": item.seed,
        "recipe": recipe(item, data.frames),
        "train_images": len(data.images),
        "train_digest": dataset.full_train().digest(),
        "test_digest": dataset.test_digest(),
        "top1": _measured(module, dataset),
        **_one_frame(module, dataset),
        **network_facts(module, dataset.spec.shape),
        "mean": list(data.mean),
        "std": list(data.std),
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **begun,
    }
    made = checkpoints.save(module, out, item.name, facts)
    again = build_entry(item, dataset)
    checkpoints.load_into(again, out / f"{item.name}.safetensors", made["sha256"])
    made["top1_reloaded"] = _measured(again, dataset)
    checkpoints.write_manifest(out, item.name, made)
    checkpoint.unlink(missing_ok=True)
    return made


def train(
    dataset: str,
    only: Sequence[str],
    out: Path,
    log: Log,
    *,
    root: Path | None = None,
    holdout: int = 0,
    epochs: tuple[int | None, int | None] = (None, None),
    start: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Train the networks named by ``only`` (all when empty) that have no manifest in ``out`` yet, in table order;
    yields each one's manifest (or tuning result) when it is done.

    ``log(name, step, steps, loss)`` is called as training goes on; ``holdout`` as in `train_one` (networks that have a
    manifest are trained then, too); ``epochs`` replaces the table's, of the first and of the second cycle; ``start`` as
    in `train_one`.
    """
    data = get_dataset(dataset, root)
    for item in [entry(name) for name in only] or list(TABLE):
        if not holdout and (out / f"{item.name}.json").exists():
            continue
        item = replace(item, epochs=epochs[0] or item.epochs, view_epochs=epochs[1] or item.view_epochs)

        def report(step: int, total: int, loss: float, name: str = item.name) -> None:
            log(name, step, total, loss)

        yield train_one(item, data, out, holdout=holdout, start=start, report=report)


def verify(dataset: str, folder: Path, root: Path | None = None) -> list[dict[str, Any]]:
    """Re-measure every network of ``folder``: rows of name, registered and measured top-1, and whether they agree.
    ``root`` is the folder of a data set that is not embedded."""
    data = get_dataset(dataset, root)
    rows = []
    for fact in checkpoints.manifests(folder):
        module = build_entry(entry(fact["name"]), data)
        checkpoints.load_into(module, folder / f"{fact['name']}.safetensors", fact["sha256"])
        module.to(memory_format=torch.channels_last)
        measured = _measured(module, data)
        rows.append({**fact, "measured": measured, "ok": abs(measured - fact["top1"]) <= 0.05})
    return rows
