"""Exports: each file has the form that the format's documentation asks for, and the board's numbers."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bench.board.index.frame import frame
from bench.board.index.ladder import Rung
from bench.cli import app as cli
from bench.errors import BenchError
from bench.submit.exports import eval_results, every_eval_ever, write_all
from bench.submit.package import Submission

STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
EEE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        *("schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info", "eval_library"),
        "evaluation_results",
    ],
    "properties": {
        "schema_version": {"const": "0.2.1"},
        "evaluation_id": {"type": "string"},
        "evaluation_timestamp": {"type": "string"},
        "retrieved_timestamp": {"type": "string", "pattern": r"^\d+(\.\d+)?$"},
        "dedupe_identity": {
            "type": "object",
            "required": ["hash_algorithm"],
            "properties": {
                "run_fingerprint": {"type": "string", "pattern": "^[a-fA-F0-9]+$"},
                "content_hash": {"type": "string", "pattern": "^[a-fA-F0-9]+$"},
                "hash_algorithm": {"enum": ["sha256", "sha512", "blake3", "other"]},
                "canonicalization_version": {"type": "string"},
            },
        },
        "source_metadata": {
            "type": "object",
            "required": ["source_type", "source_organization_name", "evaluator_relationship"],
            "properties": {
                "source_name": {"type": "string"},
                "source_type": {"enum": ["documentation", "evaluation_run"]},
                "source_organization_name": {"type": "string"},
                "evaluator_relationship": {"enum": ["first_party", "third_party", "collaborative", "other"]},
                "additional_details": STRINGS,
            },
        },
        "eval_library": {
            "type": "object",
            "required": ["name", "version"],
            "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
        },
        "model_info": {
            "type": "object",
            "required": ["name", "id"],
            "properties": {
                "name": {"type": "string"},
                "id": {"type": "string"},
                "developer": {"type": "string"},
                "inference_engine": STRINGS,
                "additional_details": STRINGS,
            },
        },
        "evaluation_results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["evaluation_name", "source_data", "metric_config", "score_details"],
                "properties": {
                    "evaluation_name": {"type": "string"},
                    "source_data": {
                        "type": "object",
                        "required": ["dataset_name", "source_type"],
                        "properties": {
                            "dataset_name": {"type": "string"},
                            "source_type": {"const": "other"},
                            "additional_details": STRINGS,
                        },
                    },
                    "metric_config": {
                        "type": "object",
                        "required": ["lower_is_better", "min_score", "max_score"],
                        "properties": {
                            "lower_is_better": {"type": "boolean"},
                            "score_type": {"const": "continuous"},
                            "min_score": {"type": "number"},
                            "max_score": {"type": "number"},
                        },
                    },
                    "score_details": {
                        "type": "object",
                        "required": ["score"],
                        "properties": {
                            "score": {"type": "number"},
                            "details": STRINGS,
                            "uncertainty": {
                                "type": "object",
                                "properties": {
                                    "confidence_interval": {
                                        "type": "object",
                                        "required": ["lower", "upper"],
                                        "properties": {
                                            "lower": {"type": "number"},
                                            "upper": {"type": "number"},
                                            "confidence_level": {"type": "number", "minimum": 0, "maximum": 1},
                                            "method": {"type": "string"},
                                        },
                                    },
                                    "num_samples": {"type": "integer"},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""What of Every Eval Ever's eval.schema.json 0.2.1 speaks of the fields that are written: names, required ones, types,
words, limits.  Written from its documentation."""

HUB: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": ["dataset", "value"],
        "properties": {
            "dataset": {
                "type": "object",
                "additionalProperties": False,
                "required": ["id", "task_id"],
                "properties": {
                    "id": {"type": "string", "pattern": r"^[\w.-]+/[\w.-]+$"},
                    "task_id": {"type": "string"},
                    "revision": {"type": "string"},
                },
            },
            "value": {"type": "number"},
            "date": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d"},
            "source": {
                "type": "object",
                "additionalProperties": False,
                "required": ["url"],
                "properties": {"url": {"type": "string"}, "name": {"type": "string"}, "user": {"type": "string"}},
            },
            "evaluation_framework": {"type": "string"},
            "notes": {"type": "string"},
        },
    },
}
"""Of huggingface/hub-docs, its page "eval-results": the keys it lists, which of them are required, and their types."""


def check(value: Any, schema: dict[str, Any], where: str = "$") -> None:
    """The few words of JSON Schema that the two above use."""
    kinds: dict[str, tuple[type, ...]] = {
        "object": (dict,),
        "array": (list,),
        "string": (str,),
        "number": (int, float),
        "integer": (int,),
        "boolean": (bool,),
    }
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), where
        assert isinstance(value, bool) == (schema["type"] == "boolean"), where
    assert "const" not in schema or value == schema["const"], where
    assert "enum" not in schema or value in schema["enum"], where
    if "pattern" in schema:
        import re

        assert re.search(schema["pattern"], value), f"{where}: {value}"
    if "minimum" in schema:
        assert schema["minimum"] <= value <= schema["maximum"], where
    if isinstance(value, dict):
        known = schema.get("properties", {})
        more = schema.get("additionalProperties", True)
        assert set(schema.get("required", ())) <= set(value), where
        assert more is not False or set(value) <= set(known), where
        for key, item in value.items():
            check(item, known.get(key) or (more if isinstance(more, dict) else {}), f"{where}.{key}")
    if isinstance(value, list):
        assert len(value) >= schema.get("minItems", 0), where
        for i, item in enumerate(value):
            check(item, schema.get("items", {}), f"{where}[{i}]")


@pytest.mark.parametrize("drop", ["schema_version", "model_info", "evaluation_results"])
def test_the_check_itself(drop: str, made: tuple[Path, Submission]) -> None:
    _, value = next(every_eval_ever(made[1], Rung(True)))
    check(value, EEE)
    with pytest.raises(AssertionError):
        check({key: item for key, item in value.items() if key != drop}, EEE)
    with pytest.raises(AssertionError):
        check({**value, "more": 1}, EEE)


def test_every_eval_ever(made: tuple[Path, Submission]) -> None:
    submission = made[1]
    table = frame(submission.records).set_index("row_id")
    files = list(every_eval_ever(submission, Rung(True, 2)))
    assert len(files) == len({path for path, _ in files}) == 2
    for path, value in files:
        check(value, EEE)
        data, benchmark, developer, model, name = path.parts
        assert (data, benchmark, developer) == ("data", "datafree-bench", "A.-Lovelace")
        assert value["model_info"]["id"] == f"{developer}/{model}"
        assert uuid.UUID(name.removesuffix(".json")).version == 4
        (result,) = value["evaluation_results"]
        row = table.loc[value["dedupe_identity"]["run_fingerprint"]]
        assert result["score_details"]["score"] == pytest.approx(row["top1_mean"])
        interval = result["score_details"]["uncertainty"]["confidence_interval"]
        assert interval["lower"] == pytest.approx(max(0, row["top1_low"]))
        assert interval["upper"] == pytest.approx(min(100, row["top1_high"]))
        told = [float(text) for text in result["score_details"]["details"].values()]
        assert np.mean(told) == pytest.approx(row["top1_mean"])
        assert value["source_metadata"]["additional_details"]["ladder"] == "reproduced ×2"
    again = [str(path) for path, _ in every_eval_ever(submission, Rung(True))]
    assert again == [str(path) for path, _ in files]  # a second export replaces the first


def test_hub(made: tuple[Path, Submission]) -> None:
    table = frame(made[1].records)
    files = list(eval_results(made[1], Rung(True), "owner/bench", "top1", "https://example.org/mine.json.xz"))
    values = []
    for path, text in files:
        loaded = yaml.safe_load(text)
        check(loaded, HUB)
        assert path.parts[1] == ".eval_results"
        values.append(loaded[0]["value"])
        assert loaded[0]["dataset"] == {"id": "owner/bench", "task_id": "top1"}
        assert "self_reported" in loaded[0]["notes"]
    assert sorted(values) == pytest.approx(sorted(table["top1_mean"]))


def test_no_source_is_invented(made: tuple[Path, Submission]) -> None:
    _, text = next(eval_results(made[1], Rung(True), "owner/bench", "default", None))
    assert "source" not in yaml.safe_load(text)[0]
    with pytest.raises(BenchError, match="--hub-dataset"):
        next(eval_results(made[1], Rung(True), "bench", "default", None))


def test_a_row_that_lacks_a_seed_is_left_out(made: tuple[Path, Submission]) -> None:
    from dataclasses import replace

    lacking = replace(made[1], records=made[1].records[1:])
    assert len(list(every_eval_ever(lacking, Rung(True)))) == 1


def test_files_are_written(made: tuple[Path, Submission], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "publish", str(made[0]), "--to", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    files = sorted(tmp_path.rglob("*.json"))
    assert len(files) == 2
    for file in files:
        check(json.loads(file.read_text(encoding="utf-8")), EEE)
    assert write_all(tmp_path, eval_results(made[1], Rung(True), "a/b", "default", None)) == 2
    assert len(list(tmp_path.rglob(".eval_results/*.yaml"))) == 2


@pytest.mark.parametrize(
    ("words", "said"), [(("--form", "eval-result"), "eval-results?"), (("--form", "eval-results"), "--hub-dataset")]
)
def test_wrong_words(
    words: tuple[str, ...],
    said: str,
    made: tuple[Path, Submission],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "publish", str(made[0]), "--to", str(tmp_path), *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
