"""The table of axes: readers, labels, identities, and a fourth axis that takes one entry and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from bench.interfaces import BitPolicy, Setting
from bench.spec import axes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "written", "values", "label", "number"),
    [
        ("bits", "W4A8", {"weight_bits": 4, "act_bits": 8, "first_last_bits": 8}, "W4A8", 4.0),
        ("bits", "W32A4", {"weight_bits": 32, "act_bits": 4, "first_last_bits": 8}, "W32A4", 32.0),
        ("sparsity", 0.125, {"sparsity": 0.125}, "S12.5", 0.125),
        ("student", "d/net_w4", {"student": "d/net_w4"}, "net_w4", None),
    ],
)
def test_an_axis_reads_names_and_places_a_value(
    name: str, written: Any, values: dict[str, Any], label: str, number: float | None
) -> None:
    own = axes.axis(name)
    assert dict(own.read(written)) == values
    assert own.text(values) == label
    assert own.number(values) == number
    assert set(own.keys) == set(values)


@pytest.mark.parametrize(
    ("name", "written"),
    [("bits", "W9A4"), ("bits", "W4"), ("bits", 4), ("sparsity", 0), ("sparsity", 1.0), ("sparsity", True)],
)
def test_what_is_no_value_says_what_would_be(name: str, written: Any) -> None:
    with pytest.raises(axes.NoValue) as caught:
        axes.axis(name).read(written)
    assert caught.value.expected


def test_a_label_holds_the_axes_asked_for() -> None:
    whole = Setting(4, 4, first_last_bits=8, sparsity=0.5, student="d/net")
    assert axes.label(whole) == "net S50 W4A4"
    assert axes.label(axes.only(whole, {"bits"})) == "W4A4"
    assert axes.label(axes.only(whole, {"sparsity", "student"})) == "net S50"
    assert axes.label(Setting()) == ""
    assert axes.names(whole)["sparsity"] == ("S50", "0.5")
    assert axes.names(Setting(4, 4))["sparsity"] == ("",)


def test_a_setting_is_a_value() -> None:
    policy = BitPolicy.of({"a": (2, 4)})
    one, same = Setting(4, 4, sparsity=0.5), Setting(sparsity=0.5, act_bits=4, weight_bits=4)
    assert one == same
    assert hash(one) == hash(same)
    assert one != Setting(4, 4, sparsity=0.5, policy=policy)
    assert Setting(4, 4, policy=policy).joined(Setting(sparsity=0.2)).policy == policy
    assert BitPolicy.from_json(policy.to_json()) == policy
    for wrong in ({"a": [2]}, {"a": 4}, {"a": [2, 4.0]}, {"a": [True, 4]}):
        with pytest.raises(ValueError, match="layer a"):
            BitPolicy.from_json(wrong)


FOURTH = """
    import sys
    import bench.spec.axes as axes

    # The one entry.
    axes.AXES = (
        *axes.AXES,
        axes.Axis(
            name="latency",
            noun="a latency",
            columns=(axes.AxisColumn("latency", "Float64", "ms", "milliseconds allowed for one image"),),
            read=lambda item: {"latency": float(item)},
            text=lambda values: f"L{values['latency']:g}",
            words=lambda values: (f"{values['latency']:g}",),
            number=lambda values: values["latency"],
        ),
    )

    from pathlib import Path
    from bench.spec.plan import make_plan
    from bench.spec.suite import load_suite
    from bench.board.claims.judging import judge
    from bench.board.index.frame import frame
    from bench.board.tables.settings import levels, setting_name
    from bench.errors import SuiteError
    from bench.spec.catalogue import ShippedCatalogue
    from bench.spec.registry import Registry
    from tests.board.make import record

    root = Path(sys.argv[1])
    sys.path.insert(0, str(root))
    catalogue = ShippedCatalogue(compressors=Registry("compressors", "fourth"))
    suite = load_suite(root / "suite.yaml")
    plan = make_plan(suite, catalogue=catalogue)
    assert [c.setting_label for c in plan.cells] == ["L5 W4A4", "L10 W4A4"], plan.cells
    assert [dict(c.axes()["setting"])["latency"] for c in plan.cells] == [5.0, 10.0]
    assert len({c.cell_id for c in plan.cells}) == len({c.row_id for c in plan.cells}) == 2
    assert len({c.generator_seed for c in plan.cells}) == 2
    for only in ("latency=5", "latency=L5", "setting=L5 W4A4", "bits=W4A4,latency=5"):
        assert [c.setting_label for c in make_plan(suite, only=only, catalogue=catalogue).cells] == ["L5 W4A4"]
    for wrong in ("latency=7", "latncy=5"):
        try:
            make_plan(suite, only=wrong, catalogue=catalogue)
        except SuiteError as error:
            assert "latency" in str(error)
        else:
            raise AssertionError(wrong)
    rows = [
        record(accuracy, source="noise", target=c.target, compressor="squeeze", setting_label=c.setting_label,
               setting=dict(c.setting.values), row_id=c.row_id, cell_id=c.cell_id)
        for c, accuracy in zip(plan.cells, (0.9, 0.6))
    ]
    table = frame(rows)
    assert sorted(table["latency"]) == [5.0, 10.0]
    assert {str(level) for level in levels(table, "latency")} == {"L5", "L10"}
    assert setting_name(table) == "Setting"
    (verdict,) = judge(suite.claims, rows)
    assert (verdict.verdict, round(verdict.difference)) == ("one seed", 30), verdict
    assert [(part.axis, part.value) for part in verdict.parts][:1] == [("latency", "L5 > L10")]
    print("done")
"""

COMPRESSOR = """
    from bench.interfaces import MethodParams

    class Squeeze:
        version = 1
        summary = paper = ""
        needs = offers = frozenset()
        accepts = frozenset({"bits", "latency"})
        deliveries, makes_zeros, keeps_zeros = frozenset({"cached"}), False, False
        Params = MethodParams
        presets = {"mini": {}}
        def variants(self, params, setting):
            return (setting,)
        def check(self, params, model): ...
        def compress(self, model, images, setting, params, ctx): ...

    METHOD = Squeeze()
"""

SUITE = """
    suite: fourth
    version: 1
    dataset: fashion_mnist
    grid:
      source: [noise]
      target: [resnet18_w10]
      compressor: [squeeze]
      bits: [W4A4]
      latency: [5, 10]
    images: 16
    seeds: [0]
    claims:
      - says: less is more
        better: {latency: 5}
        worse: {latency: 10}
        by: latency
"""


def test_a_fourth_axis_takes_one_entry(tmp_path: Path) -> None:
    """Suite, errors, ``--only``, labels, identity, record, board and claims know the axis from its entry alone."""
    (tmp_path / "fourth" / "compressors").mkdir(parents=True)
    for folder in (tmp_path / "fourth", tmp_path / "fourth" / "compressors"):
        (folder / "__init__.py").touch()
    (tmp_path / "fourth" / "compressors" / "squeeze.py").write_text(dedent(COMPRESSOR))
    (tmp_path / "suite.yaml").write_text(dedent(SUITE))
    words = [sys.executable, "-c", dedent(FOURTH), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("done", 0), done.stderr
