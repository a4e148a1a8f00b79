"""From suite to jobs: what is crossed with what, what is shared, and what is refused before any compute."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError, DataError, SuiteError, WeightsError
from bench.interfaces import Setting
from bench.spec.claims import relations, selects
from bench.spec.jobs import SHARED
from bench.spec.plan import Plan, make_plan
from bench.spec.suite import Selector, load_suite
from bench.store.records import ResultRecord
from tests.spec.conftest import SUITE, ToyCatalogue

Planner = Callable[..., Plan]


@pytest.fixture
def plan(suite_file: Path, catalogue: ToyCatalogue) -> Planner:
    """Plan of the toy suite with ``set`` overrides ."""

    def make(overrides: dict[str, Any] | None = None, **options: Any) -> Plan:
        return make_plan(load_suite(suite_file, overrides), catalogue=catalogue, **options)

    return make


def test_the_grid_is_crossed(plan: Planner) -> None:
    made = plan()
    # 5 source rows (kw twice) x 2 targets x 2 compressors x 1 setting x 2 seeds
    assert len(made.cells) == 5 * 2 * 2 * 2
    assert len({cell.cell_id for cell in made.cells}) == len(made.cells)
    # real, noise, mixmix, kw of each network; per seed
    assert len(made.synths) == 5 * 2
    assert len(made.graph()) == 10 * 2 + 40


def test_one_image_set_serves_every_cell(plan: Planner) -> None:
    made = plan()
    uses = Counter(cell.synth_id for cell in made.cells)
    assert set(uses.values()) == {4}
    assert set(uses) == {job.synth_id for job in made.synths}


def test_rows_of_kw(plan: Planner) -> None:
    cells = [
        cell for cell in plan().cells if cell.source_method == "kw" and cell.seed == 0 and cell.compressor == "rtn"
    ]
    assert [(c.model, c.target, c.membership) for c in cells] == [
        ("resnet_a", "resnet_a", "same checkpoint"),
        ("resnet_a", "resnet_b", "held-out architecture"),
        ("resnet_b", "resnet_a", "held-out architecture"),
        ("resnet_b", "resnet_b", "same checkpoint"),
    ]


def test_a_pattern_replaces_the_plain_bits(plan: Planner) -> None:
    assert {(cell.target, cell.setting_label) for cell in plan().cells} == {("resnet_a", "W4A4"), ("resnet_b", "W4A8")}


def test_labels_are_fields_of_a_record(plan: Planner) -> None:
    cell = plan().cells[-1]
    assert set(cell.axes()) == {*SHARED, "setting"} <= set(ResultRecord.model_fields)
    record = ResultRecord(suite="s", suite_version=1, status="ok", **cell.axes())
    assert (record.source, record.model, record.control, record.n) == ("mixmix", "zoo:full", "none", 40)


def test_self_means_the_cells_own_target(plan: Planner) -> None:
    made = plan({"grid.source": ["kw", {"dream": {"model": "self"}}]})
    assert made.cells
    assert made.synths
    assert all(cell.model == cell.target for cell in made.cells)
    assert all(job.models == (f"toy/{job.model}",) for job in made.synths)


def test_one_network_for_all(plan: Planner) -> None:
    made = plan({"grid.source": [{"kw": {"model": "z1"}}, {"kw": {"model": "timm:resnet18"}}]}, seeds=1)
    assert [(job.model, job.models) for job in made.synths] == [
        ("z1", ("toy/z1",)),
        ("timm:resnet18", ("timm:resnet18",)),
    ]
    # Images live in the space of the network they come from.
    assert [job.dataset.mean for job in made.synths] == [(0.5,), (0.1,)]


def test_images_without_a_model_live_in_the_targets_space(plan: Planner) -> None:
    made = plan({"grid.source": ["real"], "grid.target": ["resnet_a", "resnet_b", "timm:resnet18"]}, seeds=1)
    assert [job.dataset.mean for job in made.synths] == [(0.5,), (0.1,)]
    assert [cell.synth_id == made.cells[0].synth_id for cell in made.cells] == [True, True, True, True, False, False]


def test_zoo_groups_and_lists(plan: Planner) -> None:
    made = plan({"grid.source": ["mixmix", {"mixmix": {"zoo": ["mobile", "resnet_a", "z1"]}}]}, seeds=1)
    assert [(job.model, job.models) for job in made.synths] == [
        ("zoo:full", ("toy/z1", "toy/z2", "toy/z3")),
        ("zoo:mobile+resnet_a+z1", ("toy/z1", "toy/resnet_a")),
    ]


def test_one_network_with_a_zoo_beside_it(plan: Planner) -> None:
    rows = ["dafl", {"dafl": {"zoo": ["mobile", "resnet_a"], "mix": 2}}, {"dafl": {"model": "z2", "zoo": "mobile"}}]
    made = plan({"grid.source": rows}, seeds=1)
    assert [(job.source.label, job.model, job.models) for job in made.synths] == [
        ("dafl", "resnet_a", ("toy/resnet_a",)),
        ("dafl", "resnet_b", ("toy/resnet_b",)),
        # the one network comes first, and once
        ("dafl(mix=2)+zoo:mobile+resnet_a", "resnet_a", ("toy/resnet_a", "toy/z1")),
        ("dafl(mix=2)+zoo:mobile+resnet_a", "resnet_b", ("toy/resnet_b", "toy/z1", "toy/resnet_a")),
        ("dafl+zoo:mobile", "z2", ("toy/z2", "toy/z1")),
    ]


def test_one_network_beside_a_zoo_gives_the_constants(plan: Planner) -> None:
    rows = [{"dafl": {"model": "timm:resnet18", "zoo": "mobile"}}]
    assert [job.dataset.mean for job in plan({"grid.source": rows}, seeds=1).synths] == [(0.1,)]


def test_ablation_rows_carry_their_parameters(plan: Planner) -> None:
    rows = ["mixmix", {"mixmix": {"mix": 1}}, {"mixmix": {"mix": 1, "data_mixing": False, "label": "plain"}}]
    assert [job.source.label for job in plan({"grid.source": rows}, seeds=1).synths] == [
        "mixmix",
        "mixmix(mix=1)",
        "plain",
    ]


def test_batches_and_disk(plan: Planner) -> None:
    made = plan()
    assert {(job.count, job.batches) for job in made.synths} == {(40, 2)}
    assert made.disk_bytes() == 10 * 2 * 32 * 64 * 4
    assert made.disk_bytes(lambda synth_id, index: index == 0) == 10 * 32 * 64 * 4
    assert made.disk_bytes(lambda synth_id, index: True) == 0


def test_what_changes_an_id_and_what_does_not(plan: Planner) -> None:
    base = plan()
    synths, cells = ({job.synth_id for job in base.synths}, {cell.cell_id for cell in base.cells})

    def shared(other: Plan) -> tuple[bool, bool]:
        return (
            {job.synth_id for job in other.synths} == synths,
            not {cell.cell_id for cell in other.cells}.isdisjoint(cells),
        )

    assert shared(plan({"suite": "other", "version": 9, "title": "x"})) == (True, True)
    assert shared(plan({"images": 20})) == (True, False)
    assert shared(plan({"test_subset": 20})) == (True, False)
    assert shared(plan({"grid.bits": ["W2A4"]})) == (True, False)
    assert shared(plan(preset="paper")) == (False, False)
    assert shared(plan(dtype="bfloat16")) == (False, False)


def test_seeds_of_generators(plan: Planner) -> None:
    made = plan()
    job, cell = made.synths[0], made.cells[0]
    seeds = [job.set_seed, job.batch_seed(0), job.batch_seed(1), cell.generator_seed]
    assert len(set(seeds)) == 4
    assert plan({"images": 320}).synths[0].batch_seed(1) == job.batch_seed(1)
    # Rows that are compared draw alike; seeds do not, and neither do targets.
    for index in (0, 1):
        assert len({job.batch_seed(index) for job in made.synths if job.seed == 0}) == 1
    assert len({job.batch_seed(0) for job in made.synths}) == len({job.set_seed for job in made.synths}) == 2
    draws = {(cell.target, cell.setting_label, cell.seed): cell.generator_seed for cell in made.cells}
    assert len(set(draws.values())) == len(draws)
    assert all(draws[cell.target, cell.setting_label, cell.seed] == cell.generator_seed for cell in made.cells)


@pytest.mark.parametrize(
    ("asked", "expected"), [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]), ([5, 7, 5], [5, 7]), (None, [0, 1])]
)
def test_seeds(plan: Planner, asked: Any, expected: list[int]) -> None:
    assert list(dict.fromkeys(cell.seed for cell in plan(seeds=asked).cells)) == expected


def test_what_would_be_planned_for_hours_is_refused(plan: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SuiteError, match="too many seeds") as caught:
        plan(seeds=2**63 - 1)
    assert "1 to 10000" in str(caught.value)
    cells = len(plan().cells)
    monkeypatch.setattr("bench.spec.expand.MOST_CELLS", cells)
    assert len(plan().cells) == cells
    monkeypatch.setattr("bench.spec.expand.MOST_CELLS", cells - 1)
    with pytest.raises(SuiteError, match="grid is too large"):
        plan()


def test_only(plan: Planner) -> None:
    made = plan(only="source=kw|mix*,target=resnet_a,seed=1")
    assert len(made.cells) == 3 * 2
    assert len(made.synths) == 3
    assert plan(only="seed=1").cells == tuple(cell for cell in plan().cells if cell.seed == 1)


def test_not_applicable_has_its_reason_and_no_synthesis(plan: Planner) -> None:
    made = plan(
        {"grid.source": ["kw", "dream"], "grid.target": ["resnet_a", "mobile_c"], "grid.bits": ["W4A4"]}, seeds=1
    )
    reasons = {(cell.source, cell.target): cell.not_applicable for cell in made.cells}
    assert reasons.pop(("kw", "mobile_c")) == "kw needs batch normalisation, and mobile_c has none"
    assert set(reasons.values()) == {None}
    assert len(made.synths) == 3
    assert len(made.graph()) == 3 * 2 + 6


def test_a_compressor_without_bits_is_not_applicable(plan: Planner) -> None:
    made = plan({"grid.compressor": ["rtn", "prune"]})
    assert {cell.not_applicable for cell in made.cells if cell.compressor == "prune"} == {"prune needs a sparsity"}


def test_measures_replace_compression(plan: Planner) -> None:
    changes = {"measures": ["mmd", "bn_loss"], "grid.compressor": [], "grid.bits": [], "claims": []}
    made = plan({**changes, "grid.target": ["resnet_a", "z1", "z2"]}, seeds=1)
    assert len(made.cells) == (3 + 3) * 3  # kw: one row per network
    assert {(c.compressor, c.setting_label, c.setting, c.compressor_resolved) for c in made.cells} == {
        ("", "", None, None)
    }
    assert {cell.measures for cell in made.cells} == {("mmd", "bn_loss")}


def test_plan_as_json(plan: Planner) -> None:
    text = json.dumps(plan().to_json(), allow_nan=False)
    assert json.loads(text)["cells"][0]["source"] == "real"


BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"grid.source": ["kv"]}, ["unknown source", "kv", "did you mean: kw", "grid.source[0]"]),
    ({"grid.compressor": ["rtn", "brek"]}, ["unknown compressor", "did you mean: brecq", "grid.compressor[1]"]),
    ({"grid.target": ["resnet_x"]}, ["toy has no such network", "resnet_x", "did you mean: resnet_"]),
    ({"grid.target": ["vgg*"]}, ["matches no target", "resnet_a"]),
    ({"grid.target": ["resnet_a", "resnet_*"]}, ["given twice", "resnet_a"]),
    (
        {"grid.source": [{"kw": {"iteration": 3}}]},
        ["unknown parameter of kw", "did you mean: iterations", "kw.iteration"],
    ),
    ({"grid.source": [{"kw": {"iterations": "x"}}]}, ["wrong type", "kw.iterations"]),
    ({"grid.compressor": [{"rtn": {"step": 1}}]}, ["unknown parameter of rtn", "did you mean: steps"]),
    ({"grid.source": [{"kw": {"model": "resnet_q"}}]}, ["unknown model", "each_target", "did you mean: resnet_"]),
    ({"grid.source": [{"real": {"model": "self"}}]}, ["does not look at one network"]),
    ({"grid.source": [{"mixmix": {"model": "self"}}]}, ["does not look at one network"]),
    ({"grid.source": [{"kw": {"zoo": "full"}}]}, ["mixes no networks"]),
    ({"grid.source": [{"mixmix": {"zoo": "ful"}}]}, ["unknown zoo", "did you mean: full"]),
    ({"grid.source": [{"kw": {"student": "nobody"}}]}, ["toy has no such network"]),
    ({"grid.source": ["mixmix", {"mixmix": {"mix": 3}}]}, ["two rows of one name", "mixmix"]),
    ({"grid.source": ["kw", {"kw": {"model": "resnet_a"}}]}, ["two rows ask for the same cell", "resnet_a"]),
    ({"grid.source": ["real", {"real": {"label": "again"}}]}, ["two rows ask for the same cell"]),
    ({"grid.compressor": ["rtn", {"rtn": {"steps": 5}}]}, ["two rows of one name"]),
    ({"grid.bits": [{"W4A8": {"target": "vgg*"}}]}, ["fits no target"]),
    ({"grid.bits": [{"W4A8": {"target": "resnet_a"}}]}, ["no bits for this target", "resnet_b"]),
    ({"images": 9}, ["fewer images than toy has classes", "at least 10", "--set images"]),
    ({"test_subset": 9}, ["fewer images than toy has classes"]),
    (
        {"grid.source": ["kw"], "grid.target": ["mobile_c"], "grid.bits": ["W4A4"]},
        ["nothing of the suite can run", "batch normalisation"],
    ),
]


@pytest.mark.parametrize(("overrides", "words"), BAD, ids=[json.dumps(b[0])[:50] for b in BAD])
def test_bad_input(plan: Planner, overrides: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SuiteError) as caught:
        plan(overrides)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"only": "source=kv"}, ["--only", "did you mean: kw"]),
        ({"only": "sorce=kw"}, ["did you mean: source"]),
        ({"only": "source=kw,model=zoo:full"}, ["selects nothing"]),
        ({"seeds": 0}, ["--seeds", "1 to 10000"]),
        ({"preset": "thorough"}, ["no such preset", "mini, paper"]),
    ],
)
def test_bad_options(plan: Planner, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SuiteError) as caught:
        plan(**options)
    for word in words:
        assert word in str(caught.value)


def test_errors_of_data_and_weights_come_through(plan: Planner) -> None:
    with pytest.raises(DataError, match="unknown data set"):
        plan({"dataset": "tot"})
    with pytest.raises(WeightsError, match="no weights"):
        plan({"grid.target": ["untrained"], "grid.bits": ["W4A4"]})


CLAIMS = [
    ("source: kw, model: own", "source: kv, model: own", ["claims[0].better.source", "no such source", "kw"]),
    ("source: kw, model: own", "source: kw, model: mine", ["claims[0].better.model", "own, foreign, any"]),
    ("source: kw, model: foreign", "source: kw, target: resnet_c", ["claims[0].worse.target", "resnet_"]),
    ("source: kw, model: foreign", "source: mixmix, model: own", ["claims[0].worse", "selects no row"]),
    ("source: kw, model: foreign", "source: kw, bits: W2A4", ["claims[0].worse.bits", "W4A4, W4A8"]),
    ("source: kw, model: foreign", "source: kw, images: 7", ["claims[0].worse.images", "no such images", "7"]),
]


@pytest.mark.parametrize(("old", "new", "words"), CLAIMS)
def test_claims_speak_of_rows_that_exist(
    suite_file: Path, catalogue: ToyCatalogue, old: str, new: str, words: list[str]
) -> None:
    suite_file.write_text(SUITE.replace(old, new))
    with pytest.raises(SuiteError) as caught:
        make_plan(load_suite(suite_file), catalogue=catalogue)
    for word in ["toy_suite.yaml:1", *words]:
        assert word in str(caught.value)
    # A grid that the command line made smaller leaves claims open instead.
    make_plan(load_suite(suite_file, {"grid.source": ["real"]}), catalogue=catalogue)


def test_own_and_foreign() -> None:
    assert relations("a", "a") == ("any", "own")
    assert relations("a", "b") == ("any", "foreign")
    assert relations("zoo:full", "b") == relations("", "b") == ("any",)


def test_selectors(plan: Planner) -> None:
    rows = [cell.labels() for cell in plan(seeds=1).cells]

    def count(**wanted: Any) -> int:
        selector = Selector.model_validate({k: (v,) if isinstance(v, str) else v for k, v in wanted.items()})
        return sum(selects(selector, row) for row in rows)

    assert count() == len(rows) == 20
    assert count(source="kw") == 8
    assert count(source="kw", model="own") == 4
    assert count(source=("kw", "mixmix"), model="any", compressor="rtn") == 6
    assert count(membership="same checkpoint", bits="W4A8") == 2
    assert count(model="zoo:full", target="resnet_a") == 2


def test_only_our_errors(plan: Planner) -> None:
    for overrides, _ in BAD:
        with pytest.raises(BenchError):
            plan(overrides)


def test_each_compressor_is_asked_for_what_it_takes(plan: Planner) -> None:
    steps = {"steps": ["prune", {"rtn": {"steps": 7}}]}
    made = plan({"grid.compressor": ["rtn", "prune", steps], "grid.sparsity": [0.2, 0.5], "grid.bits": ["W4A4"]})
    first = [
        (c.compressor, c.setting_label) for c in made.cells if (c.source, c.target, c.seed) == ("real", "resnet_a", 0)
    ]
    chain = [("prune+rtn(steps=7)", "S20 W4A4"), ("prune+rtn(steps=7)", "S50 W4A4")]
    assert first == [("rtn", "W4A4"), ("prune", "S20"), ("prune", "S50"), *chain]
    found = next(c for c in made.cells if c.setting_label == "S20 W4A4")
    assert found.setting == Setting(4, 4, first_last_bits=8, sparsity=0.2)
    assert found.compressor_resolved is not None
    assert (found.compressor_resolved.version, found.compressor_method) == (4, "prune+rtn")
    assert [step.method for step in found.compressor_resolved.chain] == ["prune", "rtn"]


def test_a_step_s_version_and_parameters_are_part_of_the_cell(plan: Planner) -> None:
    def ids(steps: list[Any]) -> set[str]:
        overrides = {"grid.compressor": [{"steps": steps, "label": "x"}], "grid.sparsity": [0.2], "grid.bits": ["W4A4"]}
        return {cell.cell_id for cell in plan(overrides).cells}

    assert ids(["prune", "rtn"]).isdisjoint(ids(["prune", {"rtn": {"steps": 6}}]))
    assert ids(["prune", "rtn"]) == ids(["prune", {"rtn": {"steps": 5}}])


def test_only_the_last_step_quantises(plan: Planner) -> None:
    with pytest.raises(SuiteError, match=r"grid.compressor\[0\].steps\[0\]: only the last step may quantise"):
        plan({"grid.compressor": [{"steps": ["rtn", "prune"]}], "grid.sparsity": [0.2]})


def test_students_belong_to_targets(plan: Planner) -> None:
    students = ["z1", {"z2": {"target": "resnet_b"}}]
    made = plan({"grid.compressor": ["distil"], "grid.student": students, "grid.bits": []})
    assert {(c.target, c.setting_label) for c in made.cells} == {("resnet_a", "z1"), ("resnet_b", "z2")}
    assert {c.setting.student for c in made.cells if c.setting} == {"toy/z1", "toy/z2"}
    with pytest.raises(SuiteError, match="z9"):
        plan({"grid.compressor": ["distil"], "grid.student": ["z9"], "grid.bits": []})


def test_image_counts_share_one_synthesis(plan: Planner) -> None:
    one, more = plan({"images": 40}), plan({"images": [20, 40]})
    assert {job.synth_id for job in one.synths} == {job.synth_id for job in more.synths}
    assert {job.count for job in more.synths} == {40}
    assert {cell.cell_id for cell in one.cells} < {cell.cell_id for cell in more.cells}
    assert {cell.n for cell in more.cells} == {20, 40}
