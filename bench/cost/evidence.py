"""What was measured: seconds of records, by kind of job, method and network.  No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

from bench.cost.effort import Step, effort, looked_at, step_of
from bench.errors import BenchError
from bench.machine import cpu_facts
from bench.reading import parse_json, read_bytes, read_json, unxz
from bench.spec.catalogue import ShippedCatalogue, full_name
from bench.store.scan import record_files, record_folders
from bench.zoo.names import is_outside

BATCH, SEARCH, COMPRESSION, MEASURES = "image batch", "policy search", "compression", "image measures"
"""Kinds of job, by the words of :mod:`bench.spec.graph`."""
TESTING = "test images"
"""Measuring compressed networks, part of a compression's job."""

MOST = 400
"""Records of a store that are opened, the newest ones: they tell as much as twenty thousand."""

SHIPPED = "shipped.json.xz"
"""What the records that came with the package took, in brief; ``tests/benchmarks/costs.py`` writes it."""


@dataclass(frozen=True)
class Spent:
    """One piece of work that was done, or the median of ``count`` alike ones.

    ``passes`` are the forward-equivalents that were counted, 0 where none were.  ``network`` is what it worked on
    (empty: none), ``macs`` its multiply-accumulates for one image, 1 where there is no network; ``effort`` as
    :func:`bench.cost.effort.effort` has it, else the number of images.  ``seconds`` are CPU seconds on a CPU and wall
    seconds on CUDA.
    """

    kind: str
    step: Step
    method: str
    network: str
    macs: float
    effort: float
    seconds: float
    passes: float = 0.0
    device: str = "cpu"
    count: int = 1

    @property
    def work(self) -> float:
        """Multiply-accumulates, up to the method's own factor."""
        return self.effort * self.macs


def shipped() -> tuple[Spent, ...]:
    """What the records that came with the package took."""
    place = resources.files("bench.cost") / SHIPPED
    rows = parse_json(unxz(read_bytes(place)))
    return tuple(Spent(**row) for row in rows)


def of_store(store: Path) -> tuple[Spent, ...]:
    """What the newest records of a store took that were measured on a machine like this one.  Nothing is written; what
    is damaged is passed over.

    Raises:
        StoreError: a newer version wrote this store, or it cannot be read.
    """
    places = [
        (stamp.mtime_ns, store / "records" / folder / stamp.name)
        for folder in record_folders(store)
        for stamp in record_files(store / "records" / folder)
    ]
    here = cpu_facts()
    found = []
    for _, path in sorted(places, reverse=True)[:MOST]:
        try:
            raw = read_json(path)
        except (OSError, ValueError):
            continue
        if isinstance(raw, dict) and measured_here(raw.get("provenance"), here):
            found.append(raw)
    return of_records(found)


def measured_here(said: Any, here: Mapping[str, str]) -> bool:
    """Whether a record's provenance tells of a processor like that of ``here``; what only one of them says is not
    compared, but the processor's name must be there."""
    if not isinstance(said, Mapping) or "cpu" not in said:
        return False
    return all(
        said[name] == here[name]
        for name in ("cpu", "cpu_model", "instruction_sets")
        if {name} <= said.keys() & here.keys()
    )


def of_records(records: Iterable[Mapping[str, Any]]) -> tuple[Spent, ...]:
    """What each piece of work in the records (plain JSON, of any schema) took, alike ones together; what several
    records share, an image set, a search, a training, counts once."""
    once: dict[tuple[str, str], Spent] = {}
    for raw in records:
        if raw.get("status") != "ok":
            continue
        for key, one in _of_record(raw):
            old = once.get((one.kind, key))
            if old is None or one.effort > old.effort:
                once[one.kind, key] = one
    return merged(once.values())


def merged(rows: Iterable[Spent]) -> tuple[Spent, ...]:
    """Rows alike in all but the seconds as one, with the median."""
    groups: dict[Spent, list[float]] = {}
    for row in rows:
        groups.setdefault(replace(row, seconds=0.0, count=1), []).append(row.seconds)
    return tuple(replace(row, seconds=float(f"{median(found):.4g}"), count=len(found)) for row, found in groups.items())


def as_json(rows: Sequence[Spent]) -> list[dict[str, Any]]:
    """As :func:`shipped` reads them."""
    return [asdict(row) for row in sorted(rows, key=lambda row: (row.kind, row.method, row.network, row.effort))]


def _of_record(raw: Mapping[str, Any]) -> Iterable[tuple[str, Spent]]:
    """(what it is of, what it took) of each stage of a record."""
    costs, device = raw.get("costs") or {}, str((raw.get("provenance") or {}).get("device", "cpu"))
    dataset, target, n = str(raw.get("dataset")), str(raw.get("target")), int(raw.get("n") or 0)

    def spent(stage: str) -> float:
        found = costs.get(stage) or {}
        return float(found.get("cpu_seconds" if device == "cpu" else "seconds") or 0.0)

    def passes(stage: str) -> float:
        return float(f"{float((costs.get(stage) or {}).get('forward_equivalents') or 0.0):.3g}")

    # of a source that changes another's images, the two's seconds are one sum, and each has jobs of its own
    single = "of" not in (raw.get("source_params") or {}) and raw.get("delivery", "cached") != "stream"
    if spent("synthesis") > 0 and raw.get("synth_id") and single:
        yield str(raw["synth_id"]), _synthesis(raw, spent("synthesis"), device)
    macs = macs_of(dataset, target) or (raw.get("metrics") or {}).get("macs")
    if not macs:
        return
    common: dict[str, Any] = {"network": target, "macs": float(macs), "device": device}
    if spent("search") > 0 and raw.get("policy_id"):
        params, method = raw.get("policy_params") or {}, str(raw.get("policy_method"))
        common |= {"effort": search_work(params, n), "seconds": spent("search"), "passes": passes("search")}
        yield str(raw["policy_id"]), Spent(SEARCH, step_of(params), method, **common)
    if spent("compress") > 0:
        params, method = raw.get("compressor_params") or {}, str(raw.get("compressor_method"))
        common |= {"effort": compression_work(params, n), "seconds": spent("compress"), "passes": passes("compress")}
        yield str(raw.get("job_id") or raw["cell_id"]), Spent(COMPRESSION, step_of(params), method, **common)
        if raw.get("test_count"):
            common |= {"effort": float(raw["test_count"]), "seconds": spent("measure"), "passes": 0.0}
            yield str(raw["cell_id"]), Spent(TESTING, "forward", method, **common)
    elif spent("measure") > 0:
        common |= {"effort": float(n), "seconds": spent("measure"), "passes": 0.0}
        yield str(raw["cell_id"]), Spent(MEASURES, "forward", "", **common)


def _synthesis(raw: Mapping[str, Any], seconds: float, device: str) -> Spent:
    """A batch of the record's image set, at the mean of those that were read."""
    params, n = raw.get("source_params") or {}, max(1, int(raw.get("n") or 1))
    cost, model = raw["costs"]["synthesis"], str(raw.get("model") or "")
    passes, macs = float(cost.get("forward_equivalents") or 0.0), cost.get("macs")
    unit = macs / passes if macs and passes else macs_of(str(raw.get("dataset")), model) if model else None
    size = batch_size(str(raw.get("source_method")), params, n)
    batches = math.ceil(n / size)
    per_batch = effort(params, size) or float(size)
    return Spent(
        BATCH,
        "synthesis",
        str(raw.get("source_method")),
        model,
        float(unit or 1.0),
        per_batch,
        seconds / batches,
        float(f"{passes / batches:.3g}"),
        device,
    )


def search_work(params: Mapping[str, Any], images: int) -> float:
    """Effort of a policy search, else the images it says it looks at, else 1: it looks at none."""
    return effort(params, images) or looked_at(params, images, 1.0)


def compression_work(params: Mapping[str, Any], images: int) -> float:
    """Effort of a compression, else the images it looks at."""
    return effort(params, images) or looked_at(params, images, float(images))


def batch_size(method: str, params: Mapping[str, Any], images: int) -> int:
    """Images of a stored batch, as the method says; all ``images`` where it is not here or takes other parameters."""
    sources = _catalogue().sources
    if method not in sources.names():
        return images
    try:
        source = sources.get(method)
        return max(1, int(source.batch_size(source.Params.model_validate(dict(params)))))
    except (ValueError, BenchError):
        return images


@lru_cache(maxsize=1)
def _catalogue() -> ShippedCatalogue:
    return ShippedCatalogue()


@lru_cache(maxsize=512)
def macs_of(dataset: str, name: str) -> float | None:
    """Multiply-accumulates of a network, or the mean of those of a zoo (``zoo:full``); None where no manifest says so.
    No network is built."""
    catalogue = _catalogue()
    try:
        if name.startswith("zoo:"):
            names = _members(catalogue, dataset, name.removeprefix("zoo:"))
            each = [macs_of(dataset, one) for one in names]
            known = [one for one in each if one]
            return sum(known) / len(known) if known else None
        full = full_name(dataset, name)
        if is_outside(full):
            from bench.zoo.brought import brought

            fact = brought(full)
            return float(fact["macs"]) if fact else None
        return float(catalogue.info(full).macs or 0) or None
    except BenchError:
        return None


def _members(catalogue: ShippedCatalogue, dataset: str, group: str) -> Sequence[str]:
    return catalogue.zoo(dataset, group) if group in catalogue.zoo_groups(dataset) else group.split("+")
