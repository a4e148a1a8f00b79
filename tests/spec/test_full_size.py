"""suites/imagenet: sized as the tables are, of networks that exist, and refused clearly until these are here."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.board.tables.published import published
from bench.errors import BenchError
from bench.run.session import Draft, Options, draft_of, plan_of
from bench.spec.lacking import known
from bench.spec.suite import full_size_names, load_suite
from tests import pick
from tests.cli.test_plan import gpu

SIZES = {
    "ddpq_s1": 3,
    "mixmix_t3": 4 * 3 + 8,
    "mixmix_t4": 7 + 2,  # and two that are ours
    "mixmix_t5_structured": 3 * 4,
    "mixmix_t5_unstructured": 3 * 4,
    "mixmix_t6": 8 * 6,
    "mixmix_t8": 8,
    "seam_t1_pact": 2,
    "seam_t1_resnet18_w3": 8,
    "seam_t1_resnet18_w4": 7,
    "seam_t1_resnet50": 4,
    "seam_t2_pact": 2,
    "seam_t2_w3": 5,
    "seam_t2_w4": 7,
}
"""Suite: the table's rows, as cells of one seed."""

NOT_HERE = {"seam/T1": {"BP-NAS"}, "seam/T2": {"HMQ", "PROFIT"}}
"""Methods that stand in the published tables only."""


@cache
def draft(name: str) -> Draft:
    """Planned without weights or data."""
    if pick.lacking(name):
        pytest.skip(f"{name} names methods that are not installed: {pick.lacking(name)}")
    return draft_of(Options(name))


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_the_suites_are_these() -> None:
    assert full_size_names() == tuple(sorted(SIZES))


@pytest.mark.parametrize("name", SIZES)
def test_each_is_the_published_scale(name: str) -> None:
    suite = load_suite(name)
    text = (resources.files("suites") / "imagenet" / f"{name}.yaml").read_text(encoding="utf-8")
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert (suite.suite, suite.dataset, suite.preset, suite.trained) == (name, "imagenet", "paper", True)
    assert "Table" in header
    assert "maller" in header
    assert suite.claims
    assert load_suite(f"suites/imagenet/{name}.yaml").suite == load_suite(f"imagenet/{name}.yaml").suite == name


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_tables(name: str) -> None:
    found = draft(name).plan
    assert len(found.cells) == SIZES[name] * len(load_suite(name).seeds)
    assert all(cell.not_applicable is None for cell in found.cells)
    assert {cell.preset for cell in found.cells} == {"paper"}


@pytest.mark.parametrize(
    "reference", ["mixmix/T3", "mixmix/T4", "mixmix/T5", "mixmix/T6", "mixmix/T8", "seam/T1", "seam/T2", "ddpq/S1"]
)
def test_every_printed_row_has_its_cell(reference: str) -> None:
    """As many rows of top-1 as the tables print, but those of methods that are not here."""
    table = published(reference)
    printed = table[table["metric"] == "top1"]
    absent = printed["method"].isin(NOT_HERE.get(reference, set())).sum()
    names = [name for name in SIZES if load_suite(name).reproduces == reference]
    cells = sum(SIZES[name] for name in names)
    ours = 2 if reference == "mixmix/T4" else 0
    assert cells - ours == len(printed) - absent


# --- networks ---

GMACS = {
    "resnet18": 1.82,
    "resnet34": 3.67,
    "resnet50": 4.11,
    "resnet50d": 4.35,
    "resnet101d": 8.06,
    "resnet152d": 11.8,
    "mobilenetv1_100": 0.569,
    "mobilenetv2_100": 0.300,
    "mobilenet_v2": 0.300,
    "mobilenetv2_140": 0.585,
    "mnasnet1_0": 0.315,
    "mnasnet_100": 0.315,
    "mnasnet1_3": 0.53,
    "efficientnet_b0": 0.39,
    "mobilenetv3_large_100": 0.219,
    "regnetx_006": 0.60,
    "regnetx_016": 1.6,
    "regnetx_032": 3.2,
    "vgg16_bn": 15.5,
    "seresnet50": 4.1,
    "densenet121": 2.87,
    "densenet201": 4.34,
    "shufflenet_v2_x1_5": 0.299,
    "shufflenet_v2_x2_0": 0.59,
}
"""Multiply-accumulates in 10⁹ at 224 pixels, as the networks' papers, or torchvision's and timm's tables, have them."""


def networks() -> set[str]:
    found = set()
    for name in SIZES:
        found |= set(draft(name).lacks.networks)
    return found


def test_the_networks_exist_with_weights_and_are_those_of_the_papers() -> None:
    import timm
    from torchvision import models

    trained, here = set(timm.list_pretrained()), set(models.list_models(module=models))
    assert networks() == known().keys()
    for name in networks():
        library, short = name.split(":")
        assert short in (trained if library == "timm" else here), name
        bare = short.split(".")[0]
        fact = known()[name]
        assert (fact["shape"], fact["classes"]) == ([3, 224, 224], 1000)
        if bare in GMACS:
            assert fact["macs"] / 1e9 == pytest.approx(GMACS[bare], rel=0.04), name
    assert len([name for name in networks() if name.split(":")[1].split(".")[0] in GMACS]) >= 24


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v2", "timm:resnet18.gluon_in1k"])
def test_what_is_known_of_a_network_is_what_building_it_tells(name: str) -> None:
    from bench.zoo.brought import network_facts_of
    from bench.zoo.libraries import create

    found = network_facts_of(name, create(name), (3, 224, 224))[1]
    assert found == {key: known()[name][key] for key in found}


def test_targets_are_no_checkpoints_of_the_zoo() -> None:
    several = 0
    for name in SIZES:
        found = draft(name).plan
        for job in found.synths:
            if len(job.models) > 1:
                assert not {cell.target_name for cell in found.cells} & set(job.models)
                several += 1
    assert several


# --- refused until all is here ---

REFUSED = """suites/imagenet/seam_t1_resnet50.yaml:{line}: grid: weights and data that the suite needs are not here
  got: 1 network without weights and 3 data sets
  bench zoo add timm:resnet50.gluon_in1k --pretrained --data imagenet --data-root FOLDER
  cifar10 ({cache}/cifar10): bench data fetch cifar10
  imagefolder:stanford_cars (stanford_cars): put its images into stanford_cars/train/CLASS/*.jpg
  imagenet ({cache}/imagenet/val): ImageNet has to be asked for at image-net.org; name its folder with --data-root."""


def test_one_error_lists_everything_with_its_command(tmp_path: Path) -> None:
    draft("seam_t1_resnet50")
    with pytest.raises(BenchError) as caught:
        plan_of(Options("seam_t1_resnet50"))
    line = str(caught.value).split(":")[1]
    assert str(caught.value) == REFUSED.format(line=line, cache=tmp_path / "cache")


def test_each_network_is_listed_once() -> None:
    draft("mixmix_t8")
    with pytest.raises(BenchError) as caught:
        plan_of(Options("mixmix_t8"))
    commands = [line for line in str(caught.value).splitlines() if "bench zoo add" in line]
    assert len(commands) == len(set(commands)) == 20


def test_the_plan_is_shown_with_its_cost_and_then_refused(tmp_path: Path) -> None:
    from bench.cli.app import app

    draft("seam_t2_pact")
    words = ["plan", "imagenet/seam_t2_pact", "--cost", str(gpu(tmp_path / "gpu.json", 0.01))]
    done = CliRunner().invoke(app, words)
    said = " ".join(done.output.split())
    assert "6 of 6 cells to do" in said
    assert "GPU-hours: image batch" in said
    assert isinstance(done.exception, BenchError)
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert found["missing"]["data"] == ["imagenet"]
    assert found["cost"][0]["seconds"] > 3600


def test_a_network_that_is_brought_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.zoo import brought as module

    name = "timm:mobilenetv1_100.ra4_e3600_r224_in1k"
    facts = {**known()[name], "digest": "0" * 64, "top1": 75.0, "network": name}
    draft("seam_t2_pact")
    monkeypatch.setattr(module, "brought", lambda asked: facts if asked == name else None)
    found = draft_of(Options("seam_t2_pact"))
    assert (found.lacks.networks, list(found.lacks.data)) == ([], ["imagenet"])
