"""A submission in the formats of two public collections of results: one file per row, seeds as its uncertainty.

- Every Eval Ever, schema 0.2.1 (github.com/evaleval/every_eval_ever, eval.schema.json): one JSON file per model, named
  by a UUID, at ``data/BENCHMARK/DEVELOPER/MODEL/``.
- Hugging Face ``.eval_results/*.yaml`` as the page "eval-results" of huggingface/hub-docs describes it (a list of
  ``dataset: {id, task_id}``, ``value``, ``date``, ``source``, ``evaluation_framework``, ``notes``; "work in progress"
  there).

A "model" is a row: a target compressed in one way, over its seeds.  Left open by both, and chosen here: the score is
the mean top-1 over the seeds in percent with the board's 95 % interval; rows that lack a seed are left out; the
relation of evaluator and model is ``other``, for a submission does not say it; no ``verifyToken``, which is Hugging
Face's own.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from bench.board.index.ladder import Rung
from bench.board.index.rows import Row, make_rows
from bench.board.stats.paired import LEVEL
from bench.board.tables.averages import row_interval
from bench.errors import BenchError
from bench.store.files import write_atomic
from bench.submit.package import Submission

EEE_SCHEMA = "0.2.1"
BENCHMARK = "datafree-bench"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def rows_of(submission: Submission) -> list[Row]:
    """Its rows of compressed networks that have all seeds, in the order of their first appearance."""
    return [row for row in make_rows(submission.records) if row.metric("top1") and row.head.compressor]


def every_eval_ever(submission: Submission, rung: Rung) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(path below the export's folder, JSON value) of each row."""
    for row in rows_of(submission):
        developer, name = _developer(submission), _name(row)
        seconds = f"{datetime.fromisoformat(submission.header.made).timestamp():.1f}"
        file = uuid.UUID(bytes=hashlib.sha256(f"{submission.digest}|{_key(row)}".encode()).digest()[:16], version=4)
        yield (
            Path("data") / BENCHMARK / developer / name / f"{file}.json",
            {
                "schema_version": EEE_SCHEMA,
                "evaluation_id": f"{BENCHMARK}/{developer}/{name}/{seconds}",
                "dedupe_identity": {
                    "run_fingerprint": row.head.row_id,
                    "content_hash": submission.digest,
                    "hash_algorithm": "sha256",
                    "canonicalization_version": f"{BENCHMARK} 1",
                },
                "evaluation_timestamp": _date(submission, row),
                "retrieved_timestamp": seconds,
                "source_metadata": {
                    "source_name": f"{BENCHMARK} {submission.name}",
                    "source_type": "evaluation_run",
                    "source_organization_name": submission.header.submitter or "unknown",
                    "evaluator_relationship": "other",
                    "additional_details": {"ladder": str(rung), "submission_sha256": submission.digest},
                },
                "eval_library": {"name": BENCHMARK, "version": submission.header.benchmark},
                "model_info": _model(row, developer, name),
                "evaluation_results": [_result(row)],
            },
        )


def _model(row: Row, developer: str, name: str) -> dict[str, Any]:
    head = row.head
    facts: dict[str, Any] = {
        "target": head.target,
        "target_sha256": head.target_digest,
        "source": head.source,
        "source_model": head.model,
        "source_version": head.source_version,
        "compressor": head.compressor,
        "compressor_version": head.compressor_version,
        "policy": head.policy,
        "setting": head.setting_label,
        "images": head.n,
        "preset": head.preset,
        "access": head.access,
        "fp_top1": head.metrics.get("fp_top1"),
        "bitops_g": head.metrics.get("bitops_g"),
        "size_bytes": head.metrics.get("size_bytes"),
    }
    engine = {"name": "torch", "version": str(head.provenance.get("torch", "unknown"))}
    return {
        "name": name,
        "id": f"{developer}/{name}",
        "developer": developer,
        "inference_engine": engine,
        "additional_details": _strings(facts),
    }


def _result(row: Row) -> dict[str, Any]:
    head = row.head
    mean, ends = _interval(row)
    test = {"test_images": head.test_count, "test_sha256": head.test_digest, "protocol": head.protocol_id}
    return {
        "evaluation_name": f"{head.dataset} top-1",
        "source_data": {
            "dataset_name": head.dataset.partition(":")[0],
            "source_type": "other",
            "additional_details": _strings(test),
        },
        "metric_config": {
            "evaluation_description": "top-1 accuracy on the test set in percent, mean over the compression's seeds",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 100,
        },
        "score_details": {
            "score": mean,
            "details": _strings({f"seed_{r.seed}": r.metrics["top1"] for r in row.measured}),
            "uncertainty": {
                "confidence_interval": {
                    "lower": ends[0],
                    "upper": ends[1],
                    "confidence_level": LEVEL,
                    "method": "crossed seeds and test images, moderated variance between seeds",
                },
                "num_samples": len(row.measured),
            },
        },
    }


def _interval(row: Row) -> tuple[float, tuple[float, float]]:
    found = row_interval(row)
    if found is None:
        raise ValueError("a row without all its seeds has no mean")
    return found[0], (max(0.0, found[1].low), min(100.0, found[1].high))


def eval_results(
    submission: Submission, rung: Rung, dataset: str, task: str, source: str | None
) -> Iterator[tuple[Path, str]]:
    """(path below the export's folder, YAML text) of each row: what belongs into that model's repository.

    Args:
        dataset: the benchmark's id on the Hub, OWNER/NAME.
        task: the task's id in that data set's ``eval.yaml``.
        source: an address where the submission can be had.

    Raises:
        BenchError: no id of a data set.
    """
    if not HUB_ID.fullmatch(dataset):
        what = "is no id of a data set on the Hub"
        raise BenchError(
            what, where="--hub-dataset", got=dataset, expected="OWNER/NAME, which must be a Benchmark there"
        )
    for row in rows_of(submission):
        mean, (low, high) = _interval(row)
        entry: dict[str, Any] = {
            "dataset": {"id": dataset, "task_id": task},
            "value": mean,
            "date": _date(submission, row)[:10],
        }
        if source:
            entry["source"] = {"url": source, "name": f"{BENCHMARK} {submission.name}"}
        notes = f"{_title(row)}; mean of {len(row.measured)} seeds, 95 % interval [{low:.2f}, {high:.2f}]; {rung}"
        entry |= {"evaluation_framework": BENCHMARK, "notes": notes}
        text = yaml.safe_dump([entry], sort_keys=False, allow_unicode=True, width=120)
        yield Path(_name(row)) / ".eval_results" / f"{BENCHMARK}-{submission.header.suite}.yaml", text


def write_all(folder: Path, files: Iterator[tuple[Path, Mapping[str, Any] | str]]) -> int:
    """Write the export's files, each whole or not at all; returns how many.

    Raises:
        StoreError: one cannot be written.
    """
    count = 0
    for path, content in files:
        text = (
            content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        )
        write_atomic(folder / path, f"{text.rstrip()}\n".encode())
        count += 1
    return count


def _title(row: Row) -> str:
    head = row.head
    return " ".join(
        filter(None, (head.target, head.setting_label, head.compressor, head.policy, f"source {head.source}"))
    )


def _key(row: Row) -> str:
    return f"{row.head.row_id}|{row.head.preset}|{row.head.protocol_id}"


def _name(row: Row) -> str:
    """The row's name in paths; the end of its id tells rows of one name apart."""
    head = row.head
    words = (head.target, head.setting_label, head.compressor_method, head.source_method)
    return f"{_slug('-'.join(filter(None, words)))}-{head.row_id[:8]}"


def _developer(submission: Submission) -> str:
    return _slug(submission.header.submitter) or BENCHMARK


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:80]


def _date(submission: Submission, row: Row) -> str:
    dates = [str(r.provenance["date"]) for r in row.measured if r.provenance.get("date")]
    return max(dates, default=submission.header.made)


def _strings(facts: Mapping[str, Any]) -> dict[str, str]:
    """The schema wants text for every value; what is not known is left out."""
    return {key: str(value) for key, value in facts.items() if value not in (None, "")}
