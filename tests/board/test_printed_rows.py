"""Which printed numbers stand beside a row of the shipped packs: all whose source, network and setting we measured, and
no other; found by a correspondence written down here, not by the one that the board uses."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from bench.board.index.frame import frame
from bench.board.tables.published import join, papers, published
from bench.store.measured import read_measured
from bench.store.records import ResultRecord

from .make import record

FOLDER = Path(__file__).parents[2] / "suites" / "published"
NETWORKS = {
    "ResNet-18": "resnet18_w10",
    "ResNet-34": "resnet34_w8",
    "ResNet-50": "resnet50_w8",
    "MobileNet-b": "mobilenet_b_w025",
    "MobileNetV2": "mobilenetv2_w035",
    "MNasNet": "mnasnet_w025",
    "EfficientNet-B0": "efficientnet_b0_w025",
    "VGG11": "vgg_bn_w12",
}
MIXED = {"MixMix": "zoo:full", "MixMix-mobile": "zoo:mobile", "MixMix-residual": "zoo:residual"}
OWN = {"KW": "kw", "Single-Model": "kw", "ZeroQ": "zeroq", "DeepInversion": "deepinversion"}
STREAMED = {"DAFL": "dafl", "DAFL+MixMix": "dafl_mixmix"}
MIXING = {"m_prime=1": "mix=1", "m_prime=2": "mix=2", "m_prime=4": "mix=4", "dmix=0": "data_mixing=false"}
SEARCHES = {"EdMIPS": "edmips", "DNAS": "dnas", "FracBits": "fracbits", "LIMPQ": "limpq", "GMPQ": "gmpq"}
IGNORED = ("target_in_zoo=", "zoo=", "reproduced=", "bits_inferred=", "method_inferred=")


def wanted(row: dict[str, str]) -> tuple[str, ...] | None:
    """(source, images' network, target, compressor, search, setting) that a printed row asks for, in our words; None
    where its settings have none."""
    settings = [part for part in row["setting"].split(";") if part and not part.startswith(IGNORED)]
    known = dict(part.split("=") for part in settings)
    target, method, source, bits = row["target_model"], row["method"], row["source"], (row["w_bits"], row["a_bits"])
    setting, search = f"W{bits[0]}A{bits[1]}", ""
    if row["paper"] == "seam":
        if settings or (method in SEARCHES and source):
            return None
        search = SEARCHES.get(method, "uniform")
        setting = setting.replace("MP", "") if search != "uniform" else setting
        method, source = ("LSQ" if search != "uniform" else method), "Training data"
    if "teacher" in known:
        setting, target = NETWORKS.get(target, target), known.pop("teacher")
    if "pruning" in known:
        method = f"prune_{known.pop('pruning')}"
        setting = f"S{100 * float(known.pop('sparsity')):g}"
    mixing = [MIXING[part] for part in settings if part in MIXING]
    if set(known) - {"m_prime", "dmix"} or (mixing and source != "MixMix"):
        return None
    target = NETWORKS.get(target, target)
    if source == "Training data":
        return ("upper", "", target, method.lower(), search, setting)
    if source in MIXED:
        options = f"({', '.join(mixing)})" if mixing else ""
        return (f"mixmix{options}", MIXED[source], target, method.lower(), search, setting)
    if source in OWN or source in STREAMED:
        return ({**OWN, **STREAMED}[source], target, target, method.lower(), search, setting)
    if source.startswith("KW-"):
        return ("kw", NETWORKS.get(source[3:], source[3:]), target, method.lower(), search, setting)
    return None


def ours(row: ResultRecord) -> tuple[str, ...]:
    """The same of a measured row: labels, and bare methods of what streams."""
    source = row.source_method if row.source == f"{row.source_method}(stream)" else row.source
    source, model = ("upper", "") if row.control == "upper" else (source, row.model)
    if row.source_method == "mixmix" and "+" in model:
        model = "zoo:full"
    return (source, model, row.target, row.compressor, row.policy, row.setting_label)


@pytest.fixture(scope="module")
def measured() -> tuple[ResultRecord, ...]:
    """One record of each row of every pack, without what was measured: the join looks at names alone."""
    seen: set[tuple[object, ...]] = set()

    def first(raw: object) -> bool:
        assert isinstance(raw, dict)
        names = ("source", "model", "target", "compressor", "policy", "setting_label")
        key = (raw["suite"], *(str(raw.get(name, "")) for name in names))
        new = key not in seen
        seen.add(key)
        return new

    found = read_measured(wanted=first)  # type: ignore[arg-type]
    return tuple(one.model_copy(update={"status": "failed", "correct": None, "image_bits": None}) for one in found)


def test_every_printed_row_that_we_measured_joins_and_no_other(measured: tuple[ResultRecord, ...]) -> None:
    rows = [one for one in measured if one.compressor]
    have = {ours(one) for one in rows} | {(*ours(one)[:4], "uniform", ours(one)[5]) for one in rows if not one.policy}
    table = frame(rows)
    for paper in papers():
        with (FOLDER / f"{paper}.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        asked = {i: wanted(line) for i, line in enumerate(lines) if line["metric"] == "top1" and line["method"]}
        # two tables may print the same comparison, and then each has it
        for number in dict.fromkeys(line["table"] for line in lines):
            places = [i for i, line in enumerate(lines) if line["table"] == number]
            keys = {places.index(i): asked[i] for i in places if asked.get(i) is not None}
            often = Counter(keys.values())
            expected = {i for i, key in keys.items() if key in have and often[key] == 1}
            joined = {int(i) for i in join(table, published(f"{paper}/{number}"))["published_row"].dropna()}
            assert joined == expected, f"{paper}/{number}"


@pytest.mark.parametrize(
    ("fields", "claimed"),
    [
        ({"model": "zoo:timm:a+timm:b+timm:c"}, 74.58),
        ({"model": "zoo:mobile"}, None),
        ({"model": "zoo:full", "source_changes": {"mix": 3}}, 74.58),
        ({"model": "zoo:full", "source": "mixmix(mix=5)", "source_changes": {"mix": 5}}, None),
    ],
)
def test_a_listed_zoo_and_a_recipe_are_the_papers(fields: dict[str, object], claimed: float | None) -> None:
    made = record(0.75, target="timm:resnet50", source_method="mixmix", **fields)
    (found,) = join(frame([made]), "mixmix/T3")["published_mean"]
    assert found == claimed if claimed is not None else pd.isna(found)
