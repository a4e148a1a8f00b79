"""The suites as shipped: complete, sized as promised, and plannable with the registered methods."""

from __future__ import annotations

import shlex
from functools import cache
from importlib import resources
from pathlib import Path

import pytest

from bench.board.index.cells import repro_command
from bench.data.table import spec_of
from bench.errors import SuiteError
from bench.interfaces import NetworkInfo, Preset
from bench.spec.catalogue import ShippedCatalogue, full_name
from bench.spec.plan import Plan, make_plan, only_axes
from bench.spec.select import own_labels, parse_only
from bench.spec.suite import load_suite, suite_names
from tests import pick
from tests.board.make import record
from tests.sources.costs import generator_macs, passes

NAMES = (
    "ablation_images",
    "ablation_mixing",
    "ablation_mixing_pruning",
    "ablation_ranges",
    "ablation_weights",
    "ablation_zoo",
    "adaptive_data_free",
    "coquant_cifar",
    "coquant_lambda",
    "coquant_swap",
    "coquant_video",
    "coquant_weights",
    "coquant_zeroshot",
    "ddpq_against_static",
    "ddpq_candidates",
    "ddpq_mixup",
    "ddpq_similar_classes",
    "imagenet_lite",
    "imagenet_lite_w8a8",
    "kd",
    "policy_budget",
    "policy_data_free",
    "policy_ptq",
    "pruning",
    "pruning_quantised",
    "ptq_bits",
    "ptq_compressors",
    "ptq_w2a4",
    "ptq_w4a4",
    "qat_real",
    "qat_w2a4",
    "qat_w4a4",
    "quickstart",
    "seam_digits",
    "seam_kd",
    "seam_lambda",
    "seam_mobilenet",
    "seam_on_edmips",
    "seam_proxy",
    "seam_resnet",
    "sources_all",
    "sources_all_full",
    "sources_quality",
    "synthesis_ce_only",
    "synthesis_quality",
)


class UntrainedCatalogue(ShippedCatalogue):
    """The real methods and networks, without asking for weights: training the zoo takes hours."""

    def test_digest(self, dataset: str, subset: int | None) -> str:
        return f"{dataset}{subset}"

    def train_digest(self, dataset: str) -> str:
        return dataset

    def targets(self, dataset: str) -> tuple[str, ...]:
        from bench.zoo.table import TABLE

        return tuple(full_name(dataset, entry.name) for entry in TABLE if entry.role == "target")

    def zoo(self, dataset: str, group: str) -> tuple[str, ...]:
        from bench.zoo.table import GROUPS

        return tuple(full_name(dataset, name) for name in GROUPS[group])

    def info(self, name: str) -> NetworkInfo:
        channels = 3 if name.startswith("timm:") else spec_of(name.partition("/")[0]).shape[0]
        return NetworkInfo(name, name, (0.2,) * channels, (0.3,) * channels, 20, fp_top1=90.0)


@cache
def made(name: str) -> Plan:
    return make_plan(load_suite(name), catalogue=UntrainedCatalogue())


def plan(name: str) -> Plan:
    """The suite's plan; the test is skipped where a method it names is not installed, which another test tells."""
    if pick.lacking(name):
        pytest.skip(f"{name} names methods that are not installed: {pick.lacking(name)}")
    return made(name)


def test_the_suites_are_these() -> None:
    assert suite_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_its_methods_are_installed(name: str) -> None:
    """The one test of a suite that a method's deletion must fail: the suite asks for what is no longer there."""
    assert pick.lacking(name) == []


@pytest.mark.parametrize("name", NAMES)
def test_header_names_what_is_smaller(name: str) -> None:
    text = (resources.files("suites") / f"{name}.yaml").read_text(encoding="utf-8")
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert text.startswith("#")
    assert "maller" in header
    assert "Table" in header or "Figure" in header or "Ours" in header or "equation" in header
    assert load_suite(name).suite == name


SIZES = {
    # ptq: real, noise, zeroq and kw of each of 6 networks, mixmix; 6 targets, 2 compressors
    "ptq_w4a4": (1 + 1 + 6 + 6 + 1, (3 + 6 + 1) * 6 * 2),
    "ptq_w2a4": (1 + 1 + 6 + 6 + 1, (3 + 6 + 1) * 6 * 2),
    "quickstart": (1 + 1 + 2 + 1, 4 * 2 * 2),
    "ptq_bits": (1 + 1 + 2 + 1, 4 * 2 * 5),
    "ptq_compressors": (2, 2 * 6 * 5 * 2),
    "synthesis_quality": (7, 7 * 16),
    "ablation_mixing": (10, 10 * 2 * 2),
    "ablation_zoo": (1 + 4 + 3, 5 * 4 * 2),
    # real, noise, mixmix; kw, genie of the target; two networks of seven bit-widths
    "adaptive_data_free": (5, 5 * 2 * 7),
    "coquant_cifar": (1, 7 * 7),
    "coquant_lambda": (1, 6 * 4),
    "coquant_swap": (1, 10 * 7 + 4),
    "coquant_video": (1, 8 * 4),
    "coquant_weights": (1, 3 * 4 + 3 * 7),
    "coquant_zeroshot": (1, 6 * 7 + 4),
    # real, noise, mixmix; kw, genie, ddpq of the target
    "ddpq_against_static": (6, 6 * 3 * 3),
    "ddpq_candidates": (3, 3 * 4),
    # stored and as a stream
    "ddpq_mixup": (2, 2 * 4),
    "ddpq_similar_classes": (7, 7 * 2),
    "synthesis_ce_only": (3, 3 * 4),
    # real, noise, kw twice, genie, mixmix; 3 compressors at 2 settings, and one at one
    "imagenet_lite": (6, 6 * 3 * 2),
    "imagenet_lite_w8a8": (6, 6),
    # real, noise, mixmix; kw of each of 3 targets; 3 compressors
    "qat_w4a4": (1 + 1 + 3 + 1, 4 * 3 * 3),
    "qat_w2a4": (1 + 1 + 3 + 1, 4 * 3 * 3),
    "qat_real": (1, 6 * 2 * 2),
    "pruning": (1 + 1 + 4 + 1, 4 * 4 * 2 * 2),
    "pruning_quantised": (3, 3 * 2 * 3),
    "ablation_mixing_pruning": (10, 10),
    "ablation_images": (1 + 1 + 2 + 1, 4 * 2 * 5),
    # real, mixmix; kw of each of 6 targets; rtn and brecq, each twice
    "ablation_ranges": (1 + 1 + 6, 3 * 6 * 4 * 2),
    "ablation_weights": (6, 6 * 2 * 2),
    # real, noise, mixmix; deepinversion, dafl thrice (a set and two streams) of 2 teachers; 3 pairs of networks
    "kd": (3 + 2 + 4 * 2, 8 * 3),
    # real; 15 policies under 3 compressors on 2 targets
    "policy_ptq": (1, 15 * 3 * 2),
    # real, noise, mixmix; kw, genie of each of 2 targets; 8 policies
    "policy_data_free": (3 + 2 * 2, 5 * 8 * 2),
    "policy_budget": (1, 12 * 3),
    # real; digits
    "seam_resnet": (2, 17 * 2),
    "seam_mobilenet": (2, 17 * 2),
    "seam_digits": (2, 8),
    "seam_proxy": (2, 10),
    "seam_on_edmips": (1, 8),
    "seam_lambda": (2, 11),
    "seam_kd": (2, 8 * 2),
    # real, noise, ood, dead_leaves, mixmix (twice in the first); 12 sources that look at each target; W4A4 and W2A4
    "sources_all": (6 + 12 * 2, 18 * 2 * 2),
    "sources_all_full": (5 + 12 * 3, 17 * 3 * 2),
    "sources_quality": (17, 17 * 6),
}
"""Suite: image sets, cells; of one seed."""

FEW_SEEDS = ("coquant_video", "ddpq_against_static", "ddpq_mixup", "ddpq_similar_classes")
"""Suites of one seed: pictures, curves, and those whose claims stay open."""


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name: str) -> None:
    seeds = len(load_suite(name).seeds)
    assert (len(plan(name).synths), len(plan(name).cells)) == (SIZES[name][0] * seeds, SIZES[name][1] * seeds)
    assert seeds >= 3 or name in FEW_SEEDS


@pytest.mark.parametrize("name", NAMES)
def test_the_command_of_a_cell_means_it_alone(name: str) -> None:
    cells = plan(name).cells
    labels = own_labels([cell.labels() for cell in cells])
    for cell in cells:
        command = shlex.split(repro_command(record(None, **cell.axes() | {"suite": name})))
        chosen = parse_only(command[command.index("--only") + 1], only_axes())
        assert command[command.index("--set") + 1] == f"images={cell.n}"
        found = {
            other.cell_id
            for other, names in zip(cells, labels, strict=True)
            if other.n == cell.n and chosen.accepts(names)
        }
        assert found == {cell.cell_id}


@pytest.mark.parametrize("preset", ["thorough", "paper"])
@pytest.mark.parametrize("name", ["coquant_video", "coquant_weights", "coquant_zeroshot"])
def test_grids_of_weights_stay_apart_at_every_preset(name: str, preset: Preset) -> None:
    """The default grid is another one at ``paper``, where a row that leaves it open would become its neighbour's."""
    other = make_plan(load_suite(name), preset=preset, catalogue=UntrainedCatalogue())
    assert len(other.cells) == len(plan(name).cells)


KEEPS = pick.methods("compressors", accepts="bits", keeps_zeros=True)
FILLS = pick.methods("compressors", keeps_zeros=False, makes_zeros=False)


@pytest.mark.parametrize("last", [name for name, method in FILLS.items() if "student" not in method.accepts])
def test_zeros_are_not_filled_by_a_later_step(last: str) -> None:
    suite, zeros = "pruning_quantised", pick.name("compressors", makes_zeros=True)

    def chained(then: str) -> Plan:
        plan(suite)  # complete, or skipped
        grid = {"grid.compressor": [{"steps": [zeros, then]}], "claims": []}
        return make_plan(load_suite(suite, grid), catalogue=UntrainedCatalogue())

    assert len(chained(next(iter(KEEPS))).cells) == 3 * 2 * 3
    with pytest.raises(SuiteError, match=rf"would fill the zeros[\s\S]*{', '.join(sorted(KEEPS))}"):
        chained(last)


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("torchvision:mobilenet_v2", r"grid.student\[0\]: torchvision's networks take three channels"),
        ("timm:resnet81", r"grid.student\[0\]: timm has no such network[\s\S]*did you mean: resnet"),
    ],
)
def test_a_student_that_cannot_be_built_is_refused(
    student: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))

    def of(name: str) -> Plan:
        plan("kd")  # complete, or skipped
        return make_plan(load_suite("kd", {"grid.student": [name], "claims": []}), catalogue=UntrainedCatalogue())

    assert {cell.setting_label for cell in of("timm:resnet18").cells} == {"timm:resnet18"}
    with pytest.raises(SuiteError, match=said):
        of(student)


def test_every_source_of_sources_all_keeps_to_the_budget() -> None:
    """In multiply-accumulates, on the target of fewer; a set for several targets counts in full, or a part for each."""
    made, catalogue = plan("sources_all"), ShippedCatalogue()
    targets = {cell.target_name for cell in made.cells}
    unit = min(catalogue.info(name).macs or 0 for name in targets)
    found = {}
    for job in made.synths:
        source, macs = job.source, [catalogue.info(name).macs or 0 for name in job.models]
        generator = generator_macs(source.method, source.params, job.dataset.shape) / unit
        inverted = max(macs) / unit if len(macs) == 1 else 1
        several = sum(macs) / len(macs) / unit if len(macs) > 1 else 1
        shared = len(targets) if "amortised" in source.label else 1
        found[source.label, inverted] = passes(source.method, source.params, 128, generator) * several / shared
    assert len({label for label, _ in found}) == 18
    assert all(cost <= 60_000 for cost in found.values()), found
    used = [cost for cost in found.values() if cost]
    assert min(used) > 0.9 * 60_000  # equal budgets, not only small ones


def test_ptq_w2a4_synthesises_nothing_after_ptq_w4a4() -> None:
    one, other = ({job.synth_id for job in plan(name).synths} for name in ("ptq_w4a4", "ptq_w2a4"))
    assert one == other


def test_suites_share_what_they_can() -> None:
    first = {job.synth_id for job in plan("ptq_w4a4").synths}
    for name in ("ptq_bits", "ptq_compressors"):
        assert {job.synth_id for job in plan(name).synths} <= first
    cells = {cell.cell_id for cell in plan("ptq_w4a4").cells}
    assert any(cell.cell_id in cells for cell in plan("ptq_bits").cells)


def test_the_quickstart_is_never_ranked_with_full_test_rows() -> None:
    digests = {name: {cell.test_digest for cell in plan(name).cells} for name in ("quickstart", "ptq_w2a4")}
    assert digests["quickstart"].isdisjoint(digests["ptq_w2a4"])


def test_efficientnet_keeps_eight_bit_activations() -> None:
    bits = {cell.setting_label for cell in plan("ptq_w4a4").cells if cell.target.startswith("efficientnet")}
    assert bits == {"W4A8"}
