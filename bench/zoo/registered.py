"""What weights are known to reach, by data set: what the FP32 gate compares (docs/architecture.md#rule-4). No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.data.table import FOLDER, SPECS, VIDEO, base_name
from bench.errors import WeightsError
from bench.interfaces import ModelHandle

GATE = 0.3
"""Points of top-1 that a network may be off what is registered for it."""


def expected_top1(network: ModelHandle, dataset: str, digest: str) -> float | None:
    """Top-1 in percent registered for ``network`` on the data set called ``dataset``, or on the same test images under
    another name (their ``digest``); None where nobody registered one.

    Weights that belong to one data set (the zoo's) have one value, which holds there.
    """
    if network.registered is None:
        return network.fp_top1
    return network.registered.get(data_key(dataset), network.registered.get(digest))


def data_key(dataset: str) -> str:
    """The name of a data set: without a size that is its own, and a folder's path made absolute."""
    for prefix in (FOLDER, VIDEO):
        if dataset.startswith(prefix):
            return f"{prefix}{Path(dataset.removeprefix(prefix)).expanduser().absolute()}"
    base = base_name(dataset)
    return base if base in SPECS and dataset == f"{base}@{SPECS[base].shape[1]}" else dataset


def by_data(fact: Mapping[str, Any]) -> dict[str, float] | None:
    """``ModelHandle.registered`` of a manifest: by data set and by its test images' digest; None in manifests that were
    written before accuracies were kept by data set."""
    known = fact.get("registered")
    if known is None:
        return None
    found = {key: float(entry["top1"]) for key, entry in known.items()}
    return found | {entry["test"]: float(entry["top1"]) for entry in known.values() if entry.get("test")}


def with_entry(
    before: Mapping[str, Any] | None, facts: Mapping[str, Any], dataset: str, entry: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The manifest's ``registered`` after ``entry`` (``top1``, ``measured``, the digest ``test``) for ``dataset``: what
    stood there before stays where weights and constants are the same."""
    same = before is not None and all(before.get(key) == facts[key] for key in ("digest", "mean", "std"))
    kept = dict(before.get("registered") or {}) if before is not None and same else {}
    return kept | ({data_key(dataset): dict(entry)} if entry is not None else {})


def agreed(name: str, measured: float | None, claimed: float | None) -> float | None:
    """The top-1 to register: what was measured, else what is ``claimed``.

    Raises:
        WeightsError: both are there and differ by more than GATE points.
    """
    if measured is not None and claimed is not None and abs(measured - claimed) > GATE:
        raise WeightsError(
            "these weights do not reach what they should",
            where=name,
            got=f"{measured:.2f} % measured",
            expected=f"{claimed:.2f} ± {GATE}",
            hint="Are mean, std, image size and the order of the classes those of the training?",
        )
    return claimed if measured is None else measured
