"""The loader: what a suite says, and the error for everything it must not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError, SuiteError
from bench.spec.axes import label
from bench.spec.suite import load_suite, parse_override, suite_names
from tests.spec.conftest import SUITE


def test_a_suite_reads_as_written(suite_file: Path) -> None:
    suite = load_suite(suite_file)
    assert (suite.suite, suite.version, suite.images, suite.seeds, suite.preset) == (
        "toy_suite",
        1,
        (40,),
        (0, 1),
        "mini",
    )
    assert [entry.method for entry in suite.grid.source] == ["real", "noise", "kw", "mixmix"]
    assert suite.grid.source[2].model == "each_target"
    assert [(label(b.setting), b.target) for b in suite.grid.entries("bits")] == [("W4A4", None), ("W4A8", "resnet_b")]
    claim = suite.claims[0]
    assert claim.better.source == ("kw",)
    assert claim.worse.over == "mean"
    assert (claim.by, claim.margin) == (("target",), 0.0)


def test_entries_hold_options_and_parameters(suite_file: Path) -> None:
    overrides = {"grid.source": [{"mixmix": {"mix": 1, "zoo": "mobile", "label": "tiny"}}]}
    entry = load_suite(suite_file, {**overrides, "claims": []}).grid.source[0]
    assert (entry.method, entry.zoo, entry.label, entry.params) == ("mixmix", ("mobile",), "tiny", {"mix": 1})


# (what to replace, by what, line of the error, key, words it must hold)
BAD = [
    ("images: 40", "imags: 40", 10, "imags", ["unknown key", "images"]),
    ("images: 40\n", "", 2, "", ["missing", "images"]),
    ("images: 40", "images: many", 10, "images", ["wrong type", "'many'", "whole number"]),
    ("images: 40", 'images: "40"', 10, "images", ["wrong type", "whole number"]),
    ("images: 40", "images: true", 10, "images", ["wrong type"]),
    ("images: 40", "images: 40.5", 10, "images", ["40.5"]),
    ("images: 40", "images: 0", 10, "images", ["greater than or equal to 1"]),
    ("images: 40", "images: 9223372036854775807", 10, "images", ["less than or equal to 2000000"]),
    ("images: 40", "images: 2020-01-01", 10, "images", ["wrong type", "2020-01-01"]),
    ("images: 40", "images: 40\nimages: 41", 11, "", ["given twice", "images"]),
    ("images: 40", "images: [40", 11, "", ["no valid YAML"]),
    ("images: 40", "images: !!python/object/apply:os.getcwd []", 10, "images", ["empty"]),
    ("images: 40", "images: !mine 40", 10, "", ["cannot be read"]),
    ("version: 1", "version: 0", 3, "version", ["greater than or equal to 1"]),
    ("version: 1", "version: one", 3, "version", ["wrong type"]),
    ("suite: toy_suite", "suite: ../evil", 2, "suite", ["'../evil'"]),
    ("seeds: [0, 1]", "seeds: []", 11, "seeds", ["empty"]),
    ("seeds: [0, 1]", "seeds: [0, 0]", 11, "seeds[1]", ["given twice"]),
    ("seeds: [0, 1]", "seeds: [-1]", 11, "seeds[0]", ["-1"]),
    ("seeds: [0, 1]", "seeds: 3", 11, "seeds", ["a list"]),
    ("preset: mini", "preset: tiny", 12, "preset", ["'tiny'", "mini, thorough, paper", "did you mean: mini"]),
    ("source: [real, noise, {kw: {model: each_target}}, mixmix]", "source: []", 6, "grid.source", ["empty"]),
    ("source: [real, noise, {kw: {model: each_target}}, mixmix]", "source: real", 6, "grid.source", ["a list"]),
    ("[real, noise, {kw: {model: each_target}}, mixmix]", "[real, real]", 6, "grid.source[1]", ["given twice"]),
    ("[real, noise, {kw: {model: each_target}}, mixmix]", "[{kw: 3}]", 6, "grid.source[0].kw", ["a mapping"]),
    ("[real, noise, {kw: {model: each_target}}, mixmix]", "[{kw: {}, a: {}}]", 6, "grid.source[0]", ["no entry"]),
    ("[real, noise, {kw: {model: each_target}}, mixmix]", "[3]", 6, "grid.source[0]", ["no entry", "3"]),
    ("[real, noise, {kw: {model: each_target}}, mixmix]", "[{kw: {model: 3}}]", 6, "grid.source[0].kw.model", ["text"]),
    ("target: [resnet_a, resnet_b]", "targets: [resnet_a]", 7, "grid.targets", ["unknown key", "target?"]),
    ("target: [resnet_a, resnet_b]", "target: []", 7, "grid.target", ["empty"]),
    ("target: [resnet_a, resnet_b]", "target: [resnet_a, resnet_a]", 7, "grid.target[1]", ["given twice"]),
    ("compressor: [rtn, brecq]", "compressor: []", 8, "grid.compressor", ["empty"]),
    ("  compressor: [rtn, brecq]\n", "", 5, "grid.compressor", ["empty"]),
    ("images: 40", "images: [40, 40]", 10, "images[1]", ["given twice", "40"]),
    ("images: 40", "images: [40, 0]", 10, "images[1]", ["greater than or equal to 1"]),
    ("[rtn, brecq]", "[{steps: [prune]}]", 8, "grid.compressor[0].steps", ["at least two"]),
    ("[rtn, brecq]", "[{steps: [prune, 3]}]", 8, "grid.compressor[0].steps[1]", ["no entry", "3"]),
    ("[rtn, brecq]", "[{steps: [prune, rtn], lable: x}]", 8, "grid.compressor[0].lable", ["unknown key", "label"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "sparsity: []", 9, "grid.sparsity", ["empty"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "sparsity: [half]", 9, "grid.sparsity[0]", ["no sparsity", "0.5"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "sparsity: [1]", 9, "grid.sparsity[0]", ["less than 1"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "sparsity: [0.5, 0.5]", 9, "grid.sparsity[1]", ["given twice"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "student: [3]", 9, "grid.student[0]", ["no student", "3"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "bits: []", 9, "grid.bits", ["empty"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "bits: [W0A4]", 9, "grid.bits[0]", ["W0A4", "2 to 8"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "bits: [W33A4]", 9, "grid.bits[0]", ["W33A4", "2 to 8", "32"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "bits: [W4A1]", 9, "grid.bits[0]", ["W4A1"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "bits: [four]", 9, "grid.bits[0]", ["no bit-width", "W4A4"]),
    ("bits: [W4A4, {W4A8: {target: resnet_b}}]", "bits: [W4A4, W4A4]", 9, "grid.bits[1]", ["given twice"]),
    ("{target: resnet_b}", "{targt: resnet_b}", 9, "grid.bits[1].W4A8.targt", ["unknown key", "target?"]),
    ("over: mean", "over: median", 15, "claims[0].worse.over", ["each, mean, best"]),
    ("by: target", "by: image", 16, "claims[0].by[0]", ["target, compressor, setting, bits"]),
    ("model: own", "modle: own", 14, "claims[0].better.modle", ["unknown key", "model?"]),
    ("dataset: toy", "dataset: toy\nmeasures: [mmd]", 9, "grid.compressor", ["compresses nothing"]),
    ("dataset: toy", "dataset: toy\nmeasures: [psnr]", 5, "measures[0]", ["bn_loss"]),
]


@pytest.mark.parametrize(("old", "new", "line", "key", "words"), BAD, ids=[f"{b[1][:40]}" for b in BAD])
def test_every_bad_value_is_named(suite_file: Path, old: str, new: str, line: int, key: str, words: list[str]) -> None:
    text = SUITE.replace("claims:", "preset: mini\nclaims:") if "preset" in old else SUITE
    assert old in text
    suite_file.write_text(text.replace(old, new, 1))
    with pytest.raises(SuiteError) as caught:
        load_suite(suite_file)
    message = str(caught.value)
    assert f"toy_suite.yaml:{line}" in message
    if key:
        assert f": {key}: " in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "just words", "[a, list]", "a: &x [*x]", "\x00", "a: 1\n---\nb: 2\n"]
)
def test_what_is_no_suite(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SuiteError, match=r"x\.yaml"):
        load_suite(path)


def test_aliases_cannot_explode(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    path = tmp_path / "x.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(SuiteError, match=r"too large|too deeply"):
        load_suite(path)


def test_unreadable_and_unknown(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"suite: \xff\xfe\xfa")
    with pytest.raises(SuiteError, match="cannot read"):
        load_suite(tmp_path / "latin.yaml")
    with pytest.raises(SuiteError) as caught:
        load_suite("quikstart")
    assert "did you mean: quickstart" in str(caught.value)
    with pytest.raises(SuiteError):
        load_suite(tmp_path / "quickstart_missing" / "nothing.yaml")


def test_shipped_suites_load_by_name_and_by_path() -> None:
    assert "ptq_w4a4" in suite_names()
    for name in suite_names():
        assert load_suite(name) == load_suite(f"suites/{name}.yaml")
        assert load_suite(name).suite == name


@given(st.text(max_size=200))
def test_any_text_gives_a_suite_or_our_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "x.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(BenchError):
        load_suite(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("images=64", ("images", 64)),
        ("grid.bits=[W2A4, W4A4]", ("grid.bits", ["W2A4", "W4A4"])),
        ("title=a=b", ("title", "a=b")),
        ("grid.source.kw.iterations=5", ("grid.source.kw.iterations", 5)),
        ("test_subset=null", ("test_subset", None)),
        ("title=", ("title", "")),
    ],
)
def test_parse_override(text: str, expected: tuple[str, Any]) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["images", "=3", "", "images=[1", "images={a: 1, a: 2}"])
def test_bad_override(text: str) -> None:
    with pytest.raises(SuiteError, match="--set"):
        parse_override(text)


def test_overrides_reach_into_entries(suite_file: Path) -> None:
    overrides = {"grid.source.kw.iterations": 7, "grid.source.3.mixmix.mix": 1, "grid.source.mixmix.rate": 0.5}
    with pytest.raises(SuiteError, match="plain value"):
        load_suite(suite_file, overrides)
    del overrides["grid.source.3.mixmix.mix"]
    suite = load_suite(suite_file, {**overrides, "grid.compressor.0": "brecq2", "images": 50})
    assert suite.grid.source[2].params == {"iterations": 7}
    assert suite.grid.source[2].model == "each_target"
    assert suite.grid.source[3].params == {"rate": 0.5}
    assert suite.grid.compressor[0].method == "brecq2"
    assert suite.images == (50,)
    assert suite.changed("grid")
    assert not suite.changed("seeds")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("imags", 3, ["--set imags", "images"]),
        ("images", "many", ["--set images", "whole number"]),
        ("grid.bits", ["W4A4", "W33A4"], ["--set grid.bits", "grid.bits[1]", "W33A4"]),
        ("grid.source.kv.iterations", 3, ["--set grid.source.kv.iterations", "did you mean: kw"]),
        ("grid.source.9", "kw", ["0 to 3"]),
        ("grid.source.kw", "zeroq", ["names a whole entry"]),
        ("gird.source", ["kw"], ["did you mean: grid"]),
        ("images.x", 3, ["plain value"]),
        ("grid..bits", 3, ["empty part"]),
    ],
)
def test_bad_overrides_name_the_option(suite_file: Path, key: str, value: Any, words: list[str]) -> None:
    with pytest.raises(SuiteError) as caught:
        load_suite(suite_file, {key: value})
    for word in words:
        assert word in str(caught.value)


def test_a_suite_is_frozen_and_travels(suite_file: Path) -> None:
    import pickle

    suite = load_suite(suite_file)
    with pytest.raises(ValueError):
        suite.images = 3  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(suite)) == suite


def test_ranks_are_within_the_compressor_unless_the_suite_compares_them(suite_file: Path) -> None:
    """It changes what the board shows, never what is measured."""
    suite = load_suite(suite_file)
    assert suite.rank_within == "compressor"
    assert load_suite(suite_file, {"rank_within": "protocol"}).rank_within == "protocol"
    with pytest.raises(SuiteError, match="protocol"):
        load_suite(suite_file, {"rank_within": "everything"})
    comparing = {"ptq_compressors", "kd", "qat_real", "qat_w2a4", "qat_w4a4", "pruning", "pruning_quantised"}
    comparing |= {"ablation_mixing_pruning", "adaptive_data_free"}
    comparing |= {"coquant_cifar", "coquant_lambda", "coquant_swap", "coquant_weights"}
    comparing |= {"coquant_video", "coquant_zeroshot", "ddpq_against_static", "ddpq_candidates", "ddpq_mixup"}
    assert {name for name in suite_names() if load_suite(name).rank_within == "protocol"} == comparing
