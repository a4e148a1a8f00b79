"""ResultRecord: the truth about one cell, as JSON. Metrics are unrounded or null; never a rounded string."""

from __future__ import annotations

import base64
import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Status = Literal["ok", "failed", "skipped", "not_applicable"]


class StageCost(BaseModel):
    """What a stage took: wall and CPU seconds, forward-equivalents, peak resident memory in MiB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    forward_equivalents: float = 0.0
    peak_memory_mib: float | None = None


class ResultRecord(BaseModel):
    """One cell of the grid, measured or with the reason why not. See the fields' comments for units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    cell_id: str
    synth_id: str | None
    suite: str
    suite_version: int
    dataset: str

    source: str  # label of the row: method name plus its non-default parameters, e.g. mixmix(mix=1)
    source_method: str  # registered name of the method
    model: str  # the network the images come from, "zoo:NAME" for a zoo, "" for none
    target: str  # name without the data set, e.g. resnet18_w16
    compressor: str  # label, as for source
    compressor_method: str
    bits: str  # W4A4
    n: int  # images
    seed: int
    preset: str
    control: str  # upper | lower | none, as the source declares
    membership: str  # held-out architecture | same architecture | same checkpoint | none

    status: Status
    reason: str | None = None
    traceback: str | None = None

    metrics: dict[str, float | None] = Field(default_factory=dict)  # top1, fp_top1 in percent; macs, bitops_g, size_bytes
    correct: str | None = None  # per-sample correctness on the test set, see pack_bits
    test_count: int = 0
    test_digest: str | None = None

    costs: dict[str, StageCost] = Field(default_factory=dict)  # synthesis | compress | measure | fp
    protocol: dict[str, Any] = Field(default_factory=dict)
    protocol_id: str | None = None  # fingerprint of `protocol`; ranks are formed within one
    access: str = "T0"
    audit: list[dict[str, Any]] = Field(default_factory=list)
    curves: dict[str, list[tuple[int, float]]] = Field(default_factory=dict)
    report: dict[str, Any] = Field(default_factory=dict)
    image_digest: str | None = None

    source_version: int = 0
    compressor_version: int = 0
    source_params: dict[str, Any] = Field(default_factory=dict)
    compressor_params: dict[str, Any] = Field(default_factory=dict)
    target_digest: str = ""
    model_digests: list[str] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)  # dates, machine, versions, threads: never identity


def pack_bits(correct: NDArray[np.bool_]) -> str:
    """Pack a boolean vector [N] into base64 of zlib of its bits (most significant first)."""
    return base64.b64encode(zlib.compress(np.packbits(correct).tobytes(), 9)).decode("ascii")


def unpack_bits(text: str, count: int) -> NDArray[np.bool_]:
    """Inverse of :func:`pack_bits`; ``count`` cuts the padding of the last byte."""
    raw = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.unpackbits(raw)[:count].astype(bool)
