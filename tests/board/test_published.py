"""The papers' numbers: complete, findable, joined to the right rows only; the gap where the scale is the same."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.board.index.frame import frame
from bench.board.tables.gap import reproduction_gap
from bench.board.tables.published import (
    architecture,
    hyperparameters,
    join,
    paper,
    papers,
    published,
    width_mark,
)
from bench.errors import DataError
from bench.store.records import ResultRecord

from .make import record


def test_every_paper_is_shipped() -> None:
    assert papers() == ("coquant", "ddpq", "mixmix", "seam")
    assert {paper: len(published(paper)) for paper in papers()} == {
        "mixmix": 185,
        "seam": 161,
        "coquant": 56,
        "ddpq": 6,
    }
    assert len(published("mixmix/T6")) == 48
    assert len(published("mixmix/A-T2")) == 20


ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "suites" / "published"
DIGESTS = {
    "coquant": "abe3a12c676a7dd4763e108373ca0293a8552164aa82bf29c9e6537f7fff76e4",
    "ddpq": "b5d9a157d1fc12a68ef565a56ed1a37d87607d76e06f7895ed90feae23d78934",
    "hyperparameters": "134b2142b92615b5c821b759d7a072068cd21ec3531efbf9b1b36ba597bdc746",
    "mixmix": "2799e254d039702aea5b259bae92250e315db2e75a42d3630bf1b511a42f70b0",
    "seam": "7581da59c676e840e84c9743e36a5c55c472f54f6c8a2c51ecae9f262744cee2",
}
ROWS = {
    "mixmix": {"T1": 6, "T2": 11, "T3": 24, "T4": 9, "T5": 28, "T6": 48, "T7": 10, "T8": 8, "A-T1": 21, "A-T2": 20},
    "seam": {"T1": 79, "T2": 53, "T3": 4, "T4": 4, "T5": 8, "T6": 13},
    "coquant": {"S-T1": 6, "S-T3": 18, "S-T4": 21, "S-T5": 8, "S-Sec4": 3},
    "ddpq": {"S1": 6},
}


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_are_the_pinned_ones() -> None:
    assert {p.stem: hashlib.sha256(p.read_bytes()).hexdigest() for p in FOLDER.glob("*.csv")} == DIGESTS
    for key, tables in ROWS.items():
        assert published(key)["table"].value_counts().to_dict() == tables
    assert sum(sum(tables.values()) for tables in ROWS.values()) == 408
    assert len(hyperparameters()) == 48
    assert hyperparameters()["value"].iloc[4] == "1e-4"  # as printed, not 0.0001
    whole = pd.concat([published(key) for key in papers()])
    assert set(whole["provenance"]) == {"claimed"}
    assert not (whole[["paper", "table"]] == "").any(axis=None)
    names = ["paper", "table", "dataset", "target_model", "method", "source", "w_bits", "a_bits", "setting", "metric"]
    assert not whole.duplicated(names).any()


def test_the_readme_explains_every_column_metric_and_setting() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    whole = [line for key in papers() for line in _lines(FOLDER / f"{key}.csv")]
    words = {*whole[0], *(line["metric"] for line in whole), *(line["task"] for line in whole)}
    words |= {part.partition("=")[0] for line in whole for part in line["setting"].split(";") if part}
    assert [word for word in sorted(words) if f"`{word}`" not in text] == []


def test_a_paper_states_its_scale() -> None:
    mixmix = paper("mixmix")
    assert (mixmix.short, mixmix.image_size["ImageNet"], mixmix.images["T6"], mixmix.seeds) == (
        "MixMix",
        224,
        1024,
        None,
    )
    with pytest.raises(DataError, match="did you mean: seam"):
        paper("seem")


def test_values_keep_their_printed_form() -> None:
    table = published("mixmix/T3")
    fp = table[(table["metric"] == "fp_top1") & (table["target_model"] == "ResNet-50")].iloc[0]
    assert (fp["printed"], fp["value"]) == ("77.00", 77.0)


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(DataError, match="did you mean: mixmix"):
        published("mixmx/T6")
    with pytest.raises(DataError, match="T6"):
        published("mixmix/T66")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("resnet18_w10", "ResNet-18"),
        ("mobilenetv2_w035", "MobileNetV2"),
        ("resnet50_w8", "ResNet-50"),
        ("mobilenet_b_w025", "MobileNet-b"),
        ("mnasnet_w025", "MNasNet"),
        ("efficientnet_b0_w025", "EfficientNet-B0"),
    ],
)
def test_architectures_meet(ours: str, theirs: str) -> None:
    assert architecture(ours) == architecture(theirs)
    table = published("mixmix/T6")
    assert architecture(ours) in set(table["target_key"])


def _rows() -> pd.DataFrame:
    own, other = "mobilenetv2_w035", "resnet50_w8"
    return frame(
        [
            record(0.8, source="kw", model=own, target=own),
            record(0.8, source="kw", model=other, target=own),
            record(0.8, source="mixmix", model="zoo:full", target=own),
            record(0.8, source="mixmix", model="zoo:mobile", target=own),
            record(0.8, source="real", control="upper", target=own),
            record(0.8, source="noise", target=own),
            record(0.8, source="real", control="upper", target=own, setting_label="W2A4"),
            record(0.8, source="real", control="upper", target=own, compressor="rtn"),
            record(0.8, source="real", control="upper", target="efficientnet_b0_w025", setting_label="W4A8"),
        ]
    )


def test_join_to_table_six() -> None:
    table = join(_rows(), "mixmix/T6")
    assert len(table) == 9
    found = {
        (r["source"], r["model"], r["target"][:3], r["compressor"], r["setting_label"]): r["published_mean"]
        for _, r in table.iterrows()
        if pd.notna(r["published_mean"])
    }
    assert found == {
        ("kw", "mobilenetv2_w035", "mob", "brecq", "W4A4"): 59.81,
        ("kw", "resnet50_w8", "mob", "brecq", "W4A4"): 57.31,
        ("mixmix", "zoo:full", "mob", "brecq", "W4A4"): 64.01,
        ("real", "", "mob", "brecq", "W4A4"): 64.63,
        ("real", "", "eff", "brecq", "W4A8"): 70.64,
    }
    assert "setting_label" in table
    assert not [name for name in table.columns if str(name).endswith("_key")]
    assert set(table["published_dataset"].dropna()) == {"ImageNet"}


def test_join_names_the_zoo_and_skips_what_is_ambiguous() -> None:
    zoo = join(_rows(), "mixmix/A-T2").set_index(["source", "model", "compressor", "setting_label"])["published_mean"]
    assert zoo["mixmix", "zoo:mobile", "brecq", "W4A4"] == 64.13
    assert zoo["mixmix", "zoo:full", "brecq", "W4A4"] == 64.01
    rows = frame([record(0.8, source="mixmix", model="zoo:full", target="resnet50_w8", compressor="prune_structured",
                         setting_label="S20")])  # fmt: skip
    twice = published("mixmix/T8").assign(source_key="mixmix")  # as if the settings had no word here
    assert join(rows, twice)["published_mean"].isna().all()
    assert join(rows, twice[twice["setting"].str.startswith("m_prime=3;dmix=1")])["published_mean"].tolist() == [69.80]


def test_join_knows_sparsities_students_and_mixing() -> None:
    pruned = {"target": "resnet50_w8", "source": "mixmix", "model": "zoo:full", "compressor": "prune_structured"}
    taught = {"target": "resnet34_w8", "compressor": "kd", "setting_label": "resnet18_w10"}
    rows = frame(
        [
            record(0.8, **pruned, setting_label="S20"),
            record(0.8, **pruned, setting_label="S50"),  # the paper has a fifth of the channels only
            record(0.8, **{**pruned, "compressor": "prune_unstructured"}, setting_label="S50"),
            record(0.8, **{**pruned, "source": "mixmix(mix=2, data_mixing=false)"}, setting_label="S20"),
            record(0.8, **taught, source="dafl_mixmix(stream)", model="resnet34_w8"),
            record(0.8, **taught, source="deepinversion", model="resnet34_w8"),
            record(0.8, **{**taught, "setting_label": "vgg_bn_w12"}, source="deepinversion", model="resnet34_w8"),
        ]
    )
    names = ["source", "compressor", "setting_label"]
    for table, expected in (
        ("T5", {("mixmix", "prune_structured", "S20"): 69.80, ("mixmix", "prune_unstructured", "S50"): 75.41}),
        (
            "T8",
            {
                ("mixmix", "prune_structured", "S20"): 69.80,
                ("mixmix(mix=2, data_mixing=false)", "prune_structured", "S20"): 68.87,
            },
        ),
        ("T7", {("dafl_mixmix(stream)", "kd", "resnet18_w10"): 94.79, ("deepinversion", "kd", "resnet18_w10"): 93.26}),
    ):
        joined = join(rows, f"mixmix/{table}").dropna(subset=["published_mean"])
        assert {
            tuple(row[name] for name in names): row["published_mean"] for row in joined.to_dict("records")
        } == expected


def test_a_distillation_is_joined_to_its_teacher() -> None:
    taught = {"target": "resnet34_w8", "setting_label": "resnet18_w10", "compressor": "kd", "model": "resnet34_w8"}
    row = join(frame([record(0.8, **taught, source="dafl(stream)")]), "mixmix/T7").iloc[0]
    names = ("published_mean", "published_target", "published_dataset", "published_fp")
    # ResNet-34 has 95.42 on CIFAR-10 (T7); the appendix's 74.03 is ImageNet's
    assert tuple(row[name] for name in names) == (92.22, "ResNet-34", "CIFAR-10", 95.42)


def test_join_leaves_the_frame_alone() -> None:
    table = _rows()
    before = table.copy()
    join(table, "mixmix/T6")
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(
    ("name", "bare", "mark"),
    [
        ("timm:resnet18.a1_in1k", "resnet18", ""),
        ("timm:mobilenetv2_100.ra_in1k", "mobilenetv2", ""),
        ("timm:mobilenetv2_050", "mobilenetv2", "050"),
        ("torchvision:mobilenet_v2", "mobilenetv2", ""),
        ("torchvision:mnasnet1_0", "mnasnet", ""),
        ("torchvision:mnasnet0_5", "mnasnet", "0_5"),
        ("torchvision:shufflenet_v2_x1_5", "shufflenetv2", "1_5"),
        ("torchvision:wide_resnet50_2", "wideresnet502", ""),
        ("timm:swin_base_patch4_window7_224", "swinbasepatch4window7224", ""),
        ("mobilenetv2_w035_s1", "mobilenetv2", "w035"),
        ("cifar10/densenet_g8", "densenet", "g8"),
        ("EfficientNet-B0", "efficientnetb0", ""),
    ],
)
def test_width_marks(name: str, bare: str, mark: str) -> None:
    assert (architecture(name), width_mark(name)) == (bare, mark)


def _full(accuracy: float = 0.75, **fields: Any) -> list[ResultRecord]:
    """The paper's own setting: ResNet-50 on ImageNet with training images at W4A4, claimed 74.72 (T6)."""
    given: dict[str, Any] = {
        "source": "real",
        "control": "upper",
        "dataset": "imagenet",
        "target": "timm:resnet50",
    } | fields
    fp = given.pop("fp", 77.3)
    made = record(accuracy, **given)
    return [made.model_copy(update={"metrics": made.metrics | {"fp_top1": fp}})]


def test_a_gap_where_the_scale_is_the_same() -> None:
    (row,) = reproduction_gap(join(frame(_full()), "mixmix/T6")).to_dict("records")
    assert row["published_mean"] == 74.72
    assert row["published_fp"] == 77.0
    assert row["gap"] == pytest.approx(74.72 - 75.0)
    assert row["gap_low"] == pytest.approx(74.72 - row["top1_high"])
    assert row["gap_high"] == pytest.approx(74.72 - row["top1_low"])
    assert row["gap_low"] < row["gap"] < row["gap_high"]
    assert row["gap_reason"] == ""


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dataset": "fashion_mnist"}, "measured on fashion_mnist, claimed on ImageNet"),
        ({"target": "resnet50_w8"}, "resnet50_w8 is not the full-width ResNet-50"),
        ({"target": "timm:mobilenetv2_050", "fp": 72.0}, "timm:mobilenetv2_050 is not the full-width MobileNetV2"),
        ({"setting_label": "W8A8"}, "no printed number"),
        ({"fp": 0.1}, "another checkpoint: uncompressed 0.10 measured, 77.00 claimed"),
    ],
)
def test_no_gap_where_it_is_not(fields: dict[str, object], reason: str) -> None:
    (row,) = reproduction_gap(join(frame(_full(**fields)), "mixmix/T6")).to_dict("records")
    assert row["gap_reason"] == reason
    assert pd.isna(row["gap"])
    assert pd.isna(row["gap_low"])


def test_no_gap_of_a_stale_or_unfinished_row() -> None:
    stale = frame(_full(), versions={("sources", "real"): 2})
    assert reproduction_gap(join(stale, "mixmix/T6"))["gap_reason"].tolist() == [
        "measured with an older version of the method"
    ]
    part = frame(_full(), seeds={"s": [0, 1]})
    assert reproduction_gap(join(part, "mixmix/T6"))["gap_reason"].tolist() == ["not measured (1 of 2 seeds)"]
