"""How a record of an older schema becomes one of the next; packs under suites/measured are read so, never edited."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from bench.identity import row_id, source_identity

Raw = dict[str, Any]

_BITS = re.compile(r"W(\d+)A(\d+)")
_WORDS = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_SPARSITY = re.compile(r"S(\d+(?:\.\d+)?)")


def from_1(raw: Raw) -> Raw:
    """Schema 1 named its setting by a label alone (``resnet18_w16 S50 W4A4``: student, sparsity, bits), and a streamed
    source by the label's end.  Its cells drew from a generator that was seeded with that label."""
    label = str(raw.pop("bits", ""))
    setting = _setting(label, str(raw.get("dataset", "")))
    report = raw.get("report") or {}
    source = str(raw.get("source", ""))
    streamed = "stream" in report or source.endswith(("(stream)", ", stream)"))
    delivery = "stream" if streamed else "cached"
    made = {
        "setting": setting,
        "setting_label": label,
        "variant": "",
        "policy": "",
        "policy_id": None,
        "selection": "last",
        "delivery": delivery,
        "job_id": raw.get("cell_id", ""),
        "seed_scheme": 1,
        "source_changes": _changes(source, str(raw.get("source_method", "")), raw.get("source_params") or {}),
        "compressor_changes": _changes(
            str(raw.get("compressor", "")), str(raw.get("compressor_method", "")), raw.get("compressor_params") or {}
        ),
    }
    return {**raw, **made, "row_id": _row(raw, setting, delivery)}


def _changes(label: str, method: str, params: Raw) -> Raw:
    """What a label such as ``mixmix(mix=1, stream)`` says of parameters; one that was chosen by the suite's author says
    nothing of them and stands for itself, under ``label``."""
    bare, opened, inside = label.partition("(")
    if not opened:
        return {} if bare.partition("+zoo:")[0] == method else {"label": label}
    words = [word.strip().partition("=") for word in _WORDS.findall(inside.removesuffix(")"))]
    named = {key: params.get(key) for key, equals, _ in words if equals and key in params}
    told = len(named) + sum(key == "stream" and not equals for key, equals, _ in words)
    return named if bare == method and told == len(words) else {"label": label}


def _setting(label: str, dataset: str) -> Raw:
    found: Raw = {}
    for word in label.split():
        if bits := _BITS.fullmatch(word):
            found |= {"weight_bits": int(bits[1]), "act_bits": int(bits[2]), "first_last_bits": 8}
        elif part := _SPARSITY.fullmatch(word):
            found["sparsity"] = float(Decimal(part[1]) / 100)
        else:
            found["student"] = word if ":" in word else f"{dataset}/{word}"
    return found


def _row(raw: Raw, setting: Raw, delivery: str) -> str:
    """The row's id; a record that was never planned in full (not applicable) knows its methods by their labels only."""
    source_params = raw.get("source_params") or {}
    compressor_params = raw.get("compressor_params") or {}
    if not raw.get("source_version"):
        source_params = {"label": raw.get("source"), "model": raw.get("model")}
    if not raw.get("compressor_version"):
        compressor_params = {"label": raw.get("compressor")}
    compressor: Raw = {}
    if raw.get("compressor_method"):
        version = raw.get("compressor_version") or 0
        compressor = {"method": raw["compressor_method"], "version": version, "params": compressor_params}
    method, version = str(raw.get("source_method")), int(raw.get("source_version") or 0)
    return row_id(
        source=source_identity(method, version, source_params, raw.get("model_digests") or [], delivery),
        compressor=compressor,
        setting=setting,
        count=int(raw.get("n") or 0),
        dataset=str(raw.get("dataset")).partition(":")[0],
        target_digest=str(raw.get("target_digest") or raw.get("target")),
        test_digest=str(raw.get("test_digest") or ""),
    )


def from_2(raw: Raw) -> Raw:
    """Schema 2 had no digest: what was written then is checked by its bitmap alone.  It did not know how an image set's
    own networks read it, nor a synthesis's multiply-accumulates."""
    costs = {stage: {"macs": None, **cost} for stage, cost in (raw.get("costs") or {}).items()}
    return {"image_gate": None, **raw, "costs": costs}


def from_3(raw: Raw) -> Raw:
    """Schema 3 held no bits per image: where they depended on the image, only their mean was written down."""
    return {"image_bits": None, **raw}


MIGRATIONS: dict[int, Callable[[Raw], Raw]] = {1: from_1, 2: from_2, 3: from_3}
"""Schema version → how a record of it becomes one of the next version."""
