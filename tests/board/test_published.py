"""The papers' numbers: complete, findable, and joined to the right rows only."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.board.frame import frame
from bench.board.published import architecture, join, papers, published
from bench.errors import DataError

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
            record(0.8, source="real", control="upper", target=own, bits="W2A4"),
            record(0.8, source="real", control="upper", target=own, compressor="rtn"),
            record(0.8, source="real", control="upper", target="efficientnet_b0_w025", bits="W4A8"),
        ]
    )


def test_join_to_table_six() -> None:
    table = join(_rows(), "mixmix/T6")
    assert len(table) == 9
    found = {
        (r["source"], r["model"], r["target"][:3], r["compressor"], r["bits"]): r["published_mean"]
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
    assert "bits" in table
    assert not [name for name in table.columns if str(name).endswith("_key")]
    assert set(table["published_dataset"].dropna()) == {"ImageNet"}


def test_join_names_the_zoo_and_skips_what_is_ambiguous() -> None:
    zoo = join(_rows(), "mixmix/A-T2").set_index(["source", "model", "compressor", "bits"])["published_mean"]
    assert zoo["mixmix", "zoo:mobile", "brecq", "W4A4"] == 64.13
    assert zoo["mixmix", "zoo:full", "brecq", "W4A4"] == 64.01
    rows = frame([record(0.8, source="mixmix", model="zoo:full", target="resnet50_w8", compressor="l1_magnitude",
                         bits="W32A32")])  # fmt: skip
    assert join(rows, "mixmix/T8")["published_mean"].isna().all()  # eight settings of one name
    one = published("mixmix/T8")
    chosen = one[one["setting"].str.startswith("m_prime=3;dmix=1")]
    assert join(rows, chosen)["published_mean"].tolist() == [69.80]


def test_join_leaves_the_frame_alone() -> None:
    table = _rows()
    before = table.copy()
    join(table, "mixmix/T6")
    pd.testing.assert_frame_equal(table, before)
