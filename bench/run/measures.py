"""Image measures of a suite that has `measures`: each taken with the network on the target axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from bench import runtime
from bench.data.access import balanced_order
from bench.data.datasets import Dataset, batch_size, batches_of, labels_of
from bench.interfaces import ImageSet, ModelHandle
from bench.measure.class_similarity import class_similarity, classifier_rows, entropy_extremes
from bench.measure.images import BATCH, bn_loss, classifier_score, logits_of, zoo_top1
from bench.measure.mmd import feature_mmd, features
from bench.run.batch import read_images, renormalised
from bench.run.reports import broken_record, cost, dated, job_record, origin, synthesis_cost
from bench.run.worker import Bench, Report
from bench.spec.graph import MeasureJob
from bench.store.records import ResultRecord

Metrics = dict[str, float | None]

BN_BATCH = 32
REAL_IMAGES = 1000
"""How many real images MMD compares with: with as few as the synthetic ones, the reference's own luck shows."""

PAIRS = 200
"""Pairs of classes that a record lists, the likest first; 45 are all pairs of ten classes."""


@dataclass(frozen=True)
class Measured:
    """Numbers for tables, and what only the record of a cell shows (JSON)."""

    metrics: Metrics
    report: dict[str, Any] = field(default_factory=dict)


def run_measures(bench: Bench, job: MeasureJob, report: Report) -> tuple[ResultRecord, ...]:
    """Measure an image set under a network; whatever goes wrong becomes a record with the reason."""
    try:
        bench.integrity.check()
        return (_measured(bench, job, report),)
    except Exception as error:  # noqa: BLE001 - a job's failure is a record (docs/architecture.md#rule-9)
        return (broken_record(job, job.first, error, bench.facts),)


def _measured(bench: Bench, job: MeasureJob, report: Report) -> ResultRecord:
    cell, target, dataset = job.first, bench.model(job.first.target_name), bench.dataset(job.first.dataset)
    images = read_images(bench, job.images, cell.n, report)
    with runtime.measure() as spent:
        ready = renormalised(images, job.images, target)
        found = measure_images(cell.measures, ready, target, dataset, cell.generator_seed)
    # The first batch's curves: what a suite without compressor has to show over iterations.
    curves = {name.removesuffix("/0"): curve for name, curve in images.info["curves"].items() if name.endswith("/0")}
    costs = {"synthesis": synthesis_cost(images), "measure": cost(spent)}
    facts = {**vars(found), "costs": costs, "curves": curves, **origin(images)}
    return job_record(job, cell, "ok", **facts, provenance=dated(bench.facts))


def measure_images(
    wanted: tuple[str, ...], images: ImageSet, target: ModelHandle, dataset: Dataset, seed: int
) -> Measured:
    """The measures ``wanted`` of an image set under ``target``.

    Args:
        seed: of the generator that draws real images and the bootstrap; the same for all sources that are compared.
    """
    measures: dict[str, Callable[[], Measured]] = {
        "bn_loss": lambda: Measured(_bn(target, images)),
        "zoo_top1": lambda: Measured(_top1(target, images)),
        "classifier_score": lambda: Measured(_score(target, images)),
        "mmd": lambda: Measured(_mmd(target, images, dataset, seed)),
        "class_similarity": lambda: _classes(target, images, dataset),
    }
    found = Measured({})
    for name in wanted:
        one = measures[name]()
        found = Measured(found.metrics | one.metrics, found.report | one.report)
    return found


def _bn(target: ModelHandle, images: ImageSet) -> Metrics:
    """Pooled over all images, and per batch of one size for all sources, since the value falls with the size."""
    pooled = bn_loss(target.module, images.images)
    found: Metrics = {"bn_loss_u1": pooled.u1, "bn_loss_u2": pooled.u2}
    if len(images.images) >= BN_BATCH:
        found[f"bn_loss_u1_batch{BN_BATCH}"] = bn_loss(target.module, images.images, batch=BN_BATCH).u1
    return found


def _top1(target: ModelHandle, images: ImageSet) -> Metrics:
    """Accuracy on the labels the images were made for; none for a source without labels."""
    if images.labels is None or images.label_kind in ("none", "pseudo", "foreign"):
        return {"image_top1": None}
    return {"image_top1": zoo_top1({target.name: target.module}, images.images, images.labels).mean}


def _score(target: ModelHandle, images: ImageSet) -> Metrics:
    score = classifier_score(target.module, images.images)
    return {"classifier_score": score.mean, "classifier_score_std": score.std}


def _classes(target: ModelHandle, images: ImageSet, dataset: Dataset) -> Measured:
    """Similarity of classes by rows and by predictions, and the images of lowest and highest entropy of each class: of
    the images' own labels where these are the target's classes, else of what the target calls them."""
    logits = logits_of(target.module, images.images)
    likeness = class_similarity(classifier_rows(target.module, images.images[:1], logits.shape[1]), logits)
    own = images.labels is not None and images.label_kind in ("native", "assigned")
    extremes = entropy_extremes(logits, images.labels if own else logits.argmax(1))  # type: ignore[arg-type]
    names = dict(enumerate(dataset.spec.class_names))
    pairs = [
        {"class": names.get(one, one), "other": names.get(other, other), "cosine": cosine, "co_occurrence": together}
        for one, other, cosine, together in likeness.pairs(PAIRS)
    ]
    each = [{"class": names.get(found.label, found.label), **asdict(found)} for found in extremes]
    lowest, highest = ([getattr(one, f"{end}_entropy") for one in extremes] for end in ("lowest", "highest"))
    metrics: Metrics = {
        "class_similarity": likeness.rank_correlation,
        "entropy_surest": sum(lowest) / len(lowest),
        "entropy_least_sure": sum(highest) / len(highest),
    }
    return Measured(metrics, {"classes_alike": pairs, "entropy_extremes": each})


def _mmd(target: ModelHandle, images: ImageSet, dataset: Dataset, seed: int) -> Metrics:
    """MMD² to real test images with its bootstrap interval; the mean over networks is the board's to form."""
    generator = runtime.make_generator(seed)
    real = dataset.test()
    picks = balanced_order(labels_of(real), dataset.spec.classes, generator)[:REAL_IMAGES]
    size = batch_size(dataset.spec.shape, BATCH)
    held = (dataset.normalise(part) for part, _ in batches_of(real, size, picks))
    with torch.inference_mode():
        pair = features(target.module, images.images), features(target.module, held)
    found = feature_mmd(*pair, generator)
    out: Metrics = {}
    for name, one in found.items():
        out |= {f"mmd_{name}": one.value, f"mmd_{name}_floor": one.floor}
        out |= {f"mmd_{name}_low": one.low, f"mmd_{name}_high": one.high}
    return out
