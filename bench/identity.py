"""Identity: canonical JSON → SHA-256.

What is hashed is what determines a result.  Never hashed: the device, threads, workers, paths, dates, host, versions
of libraries, the suite's name, labels.  They are provenance; a record carries them, an id does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

ID_LENGTH = 16
"""Hex digits of an id: 64 bits, so that a million cells collide with probability 3e-8."""

SCHEME = 1
"""Version of the rules below; it is hashed, so that changing them changes every id."""

SEED_SCHEME = 2
"""Version of how a cell's generator is seeded.  1 hashed the setting's label, 2 hashes what the setting asks.  A cell's
id does not hold it: what was measured under 1 stands, and its record says so."""


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, tuples as lists, floats by ``repr``.

    -0.0 equals 0.0, but 1 (a count) and 1.0 (a measure) differ.

    Raises:
        ValueError: NaN or infinity.
        TypeError: a value that has no JSON form (a tensor, a path, a date), or a key that is no string.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def synth_id(
    *,
    source: str,
    version: int,
    params: Mapping[str, Any],
    model_digests: Sequence[str],
    student_digest: str | None,
    dataset: Mapping[str, Any],
    batch_size: int,
    dtype: str,
    seed: int,
) -> str:
    """Id of an image set, 16 hex digits.

    Hashed: the source's registered name and version, its resolved parameters (all of them, defaults included), the
    weight digests of its models in order and of its student, the data set's constants (name, classes, shape, mean,
    std), the batch size, the compute dtype, the seed.
    Not hashed: the number of images (a smaller set is a prefix), bits, compressor, target, preset's name, row label.
    """
    return digest(
        {
            "scheme": SCHEME,
            "kind": "synth",
            "source": source,
            "version": version,
            "params": params,
            "models": list(model_digests),
            "student": student_digest,
            "dataset": dataset,
            "batch_size": batch_size,
            "dtype": dtype,
            "seed": seed,
        }
    )[:ID_LENGTH]


def cell_id(
    *,
    synth: str,
    count: int,
    compressor: str | None,
    version: int | None,
    params: Mapping[str, Any],
    setting: Mapping[str, Any] | None,
    target_digest: str,
    test_digest: str,
    seed: int,
    policy: str | None = None,
    measures: Sequence[str] = (),
    asked: Mapping[str, Any] | None = None,
    teacher: str | None = None,
    kind: str = "cell",
) -> str:
    """Id of a cell, 16 hex digits.

    Hashed: the image set's id, the number of images, the policy's id, the compressor's registered name, version and
    resolved parameters, the setting, the target's weight digest, the test set's digest, the seed; for a cell of image
    measures the measures (as a set) instead of compressor and setting; where one compression delivers several networks
    also what it was asked for; where another network than the target teaches, the digest of its weights.
    Not hashed: suite, labels, preset's name, the target's name.

    With ``kind`` "compression" and no ``setting`` it is the id of the compression that several cells share.
    """
    hashed = {
        "scheme": SCHEME,
        "kind": kind,
        "synth": synth,
        "count": count,
        "policy": policy,
        "compressor": compressor,
        "version": version,
        "params": params,
        "setting": setting,
        "target": target_digest,
        "test": test_digest,
        "seed": seed,
        "measures": sorted(measures),
    }
    some = {"asked": asked, "teacher": teacher}  # absent, not null, in cells without them: their ids are older
    return digest(hashed | {key: value for key, value in some.items() if value is not None})[:ID_LENGTH]


def policy_id(
    *,
    search: str,
    version: int,
    params: Mapping[str, Any],
    synth: str,
    count: int,
    setting: Mapping[str, Any],
    target_digest: str,
    seed: int,
) -> str:
    """Id of a searched policy, 16 hex digits: the search's name, version and resolved parameters, the images it looks
    at, the setting it works within, the target's weights, the seed."""
    return digest(
        {
            "scheme": SCHEME,
            "kind": "policy",
            "search": search,
            "version": version,
            "params": params,
            "synth": synth,
            "count": count,
            "setting": setting,
            "target": target_digest,
            "seed": seed,
        }
    )[:ID_LENGTH]


def source_identity(
    method: str, version: int, params: Mapping[str, Any], models: Sequence[str], delivery: str
) -> dict[str, Any]:
    """What a row's id hashes of its source."""
    found = {"method": method, "version": version, "params": params, "models": list(models)}
    return found if delivery == "cached" else {**found, "delivery": delivery}


def row_id(
    *,
    source: Mapping[str, Any],
    compressor: Mapping[str, Any],
    setting: Mapping[str, Any],
    count: int,
    dataset: str,
    target_digest: str,
    test_digest: str,
    more: Mapping[str, Any] | None = None,
) -> str:
    """Id of a row, 16 hex digits: the cell without its seed.

    It is made of what every record holds, those of schema 1 included, so that a seed measured later finds its row.

    Args:
        source: as :func:`source_identity` has it.
        compressor: method, version, resolved parameters; of a cell of image measures none.
        setting: values by key.
        more: what only some rows have: delivery, policy, student of the source, compute dtype, what was asked, teacher.
    """
    hashed = {
        "scheme": SCHEME,
        "kind": "row",
        "source": source,
        "compressor": compressor,
        "setting": setting,
        "count": count,
        "dataset": dataset,
        "target": target_digest,
        "test": test_digest,
    }
    return digest(hashed | {key: value for key, value in (more or {}).items() if value is not None})[:ID_LENGTH]


def seed_from(*parts: Any) -> int:
    """A seed in [0, 2**63) from the hash of ``parts``; equal parts give equal seeds on any machine."""
    return int(digest(["seed", *parts])[:16], 16) >> 1


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no place in an identity")
        return float(value) + 0.0  # -0.0 + 0.0 is 0.0
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys must be strings")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted((_plain(item) for item in value), key=canonical)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no canonical form")
