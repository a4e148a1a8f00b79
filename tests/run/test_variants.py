"""One compression, several networks; one search, bits for each layer: brought by an installed package, run for real."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
from rich.console import Console

from bench.errors import SuiteError
from bench.run import session
from bench.run.session import Options
from bench.spec.graph import CompressionJob
from bench.store.artifacts import ArtifactStore
from bench.store.policies import PolicyStore
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord
from tests import pick

from .packages import install

PACKAGE = '''
    from pathlib import Path

    from bench.interfaces import BitPolicy, Compressed, MethodParams, Searched, Setting, Variant
    from methods.quant.model import quantize_model


    class AdaptiveParams(MethodParams):
        widths: tuple[int, ...] = (8, 4, 2)
        forget: int = 0
        diary: str = ""


    class Adaptive:
        """Rounds at every width in one go and says so in its diary; may forget the last networks it promised."""

        version = 1
        summary = paper = "several widths"
        needs = offers = frozenset()
        accepts = frozenset({"bits"})
        deliveries, makes_zeros, keeps_zeros = frozenset({"cached"}), False, True
        Params = AdaptiveParams
        presets = {"mini": {}}

        def variants(self, params, setting):
            return tuple(setting.joined(Setting(width, width)) for width in params.widths)

        def check(self, params, model): ...

        def compress(self, model, images, setting, params, ctx):
            if params.diary:
                with Path(params.diary).open("a") as file:
                    file.write(f"{setting.values}\\n")
            made = []
            for own in self.variants(params, setting)[: len(params.widths) - params.forget]:
                net = quantize_model(model.module, images.images[:2], own)
                net.calibrate(images.images)
                protocol = {**net.protocol(), "trained_with": list(params.widths)}
                made.append(Variant(own, net, net.layer_bits(), *net.parameter_count(), protocol=protocol, bitops=5e9))
            return Compressed(tuple(made), {"passes": 1}, float(len(images.images)))


    class HalfParams(MethodParams):
        low: int = 2
        diary: str = ""


    class Half:
        """Every second layer gets few bits."""

        version = 1
        summary = paper = "every second layer"
        needs, control, written = frozenset(), False, False
        Params = HalfParams
        presets = {"mini": {}}

        def check(self, params, model): ...

        def search(self, model, images, setting, params, ctx):
            from torch import nn

            if params.diary:
                with Path(params.diary).open("a") as file:
                    file.write(f"{model.name} {len(images.images)}\\n")
            names = [n for n, m in model.module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
            policy = BitPolicy.of({name: (params.low, setting.act_bits) for name in names[1:-1:2]})
            return Searched(policy, {"layers": len(policy)}, 3.0)


    ADAPTIVE, HALF = Adaptive(), Half()
'''

SUITE = f"""
    suite: several
    version: 1
    dataset: fashion_mnist
    grid:
      source: [{pick.UPPER}, {pick.LOWER}]
      target: [resnet18_w10]
      compressor: COMPRESSOR
      bits: [W8A8]
    images: 40
    seeds: [0]
    test_subset: 200
"""


CONTROLS = (pick.UPPER, pick.LOWER)
QUANTISERS = list(pick.methods("compressors", accepts="bits"))[:2]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with an adaptive compressor and a policy search, as pip would install it."""
    pick.need_small_runs()
    points = {"compressors": {"adaptive": "several:ADAPTIVE"}, "policies": {"half": "several:HALF"}}
    install(tmp_path / "site", "several", PACKAGE, points, monkeypatch)
    return tmp_path


def start(folder: Path, compressor: str, **options: object) -> list[ResultRecord]:
    """Run the suite with that compressor axis in this process."""
    suite = folder / "several.yaml"
    suite.write_text(dedent(SUITE).replace("COMPRESSOR", compressor))
    given = {"workers": 0, "tracker": "none", "store": folder / "store", **options}
    return session.run(Options(suite=str(suite), **given), Console(quiet=True))[1]  # type: ignore[arg-type]


def test_every_planned_network_is_measured_from_one_compression(installed: Path) -> None:
    diary = installed / "diary"
    adaptive = f'[{{adaptive: {{diary: "{diary}"}}}}]'
    records = start(installed, adaptive)
    assert [(r.source, r.setting_label, r.variant, r.status) for r in records] == [
        (source, width, f"{width} of W8A8", "ok") for source in CONTROLS for width in ("W8A8", "W4A4", "W2A2")
    ]
    assert len(diary.read_text().splitlines()) == 2  # one training for each source
    for source in CONTROLS:
        own = [r for r in records if r.source == source]
        assert len({r.job_id for r in own}) == 1
        assert len({r.cell_id for r in own}) == len({r.row_id for r in own}) == len({r.protocol_id for r in own}) == 3
        assert [r.setting["weight_bits"] for r in own] == [8, 4, 2]
        assert own[0].metrics["top1"] > own[2].metrics["top1"]  # type: ignore[operator]
        sizes = [r.metrics["size_bytes"] for r in own]
        assert sizes == sorted(sizes, reverse=True)  # type: ignore[type-var]
        assert {r.metrics["bitops_g"] for r in own} == {5.0}  # its own mean over the images
    start(installed, adaptive)
    assert len(diary.read_text().splitlines()) == 2  # all of it stands


def test_what_is_asked_for_decides_the_cells_identity(installed: Path) -> None:
    """The same width from another set of widths is another training, so another cell and another row."""
    first = start(installed, "[{adaptive: {widths: [8, 4]}}]", only=f"source={pick.UPPER}")
    other = start(installed, "[{adaptive: {widths: [8, 2]}}]", only=f"source={pick.UPPER}")
    assert not {r.cell_id for r in first} & {r.cell_id for r in other}
    assert not {r.row_id for r in first} & {r.row_id for r in other}
    plain = start(installed, f"[{pick.ROUND}]", only=f"source={pick.UPPER}")
    assert [(r.variant, r.job_id == r.cell_id) for r in plain] == [("", True)]


def test_a_selection_runs_the_compression_and_keeps_what_was_asked(installed: Path) -> None:
    records = start(installed, "[adaptive]", only=f"source={pick.UPPER},bits=W4A4")
    assert [(r.setting_label, r.status) for r in records] == [("W4A4", "ok")]


def test_a_network_that_was_promised_and_is_not_there_fails_the_cells(installed: Path) -> None:
    records = start(installed, "[{adaptive: {forget: 1}}]", only=f"source={pick.UPPER}")
    assert {r.status for r in records} == {"failed"}
    assert all("other networks than it promised" in str(r.reason) and "W2A2" in str(r.reason) for r in records)


def test_a_promise_of_nothing_or_of_one_setting_twice_is_no_plan(installed: Path) -> None:
    for widths in ("[]", "[4, 4]"):
        with pytest.raises(SuiteError, match="adaptive delivers no set of networks"):
            start(installed, f"[{{adaptive: {{widths: {widths}}}}}]")


def test_a_searched_policy_is_stored_once_and_used_by_every_quantiser(installed: Path) -> None:
    diary = installed / "diary"
    policy = f'[{", ".join(QUANTISERS)}]\n  policy: [{{half: {{diary: "{diary}"}}}}]'
    records = start(installed, policy)
    assert {r.status for r in records} == {"ok"}, [r.reason for r in records]
    assert [(r.source, r.compressor, r.policy) for r in records] == [
        (source, compressor, records[0].policy) for source in CONTROLS for compressor in QUANTISERS
    ]
    assert diary.read_text() == "fashion_mnist/resnet18_w10 40\n" * 2  # once an image set, for both compressors
    policies = PolicyStore(ArtifactStore(installed / "store").objects)
    for source in CONTROLS:
        own = [r for r in records if r.source == source]
        (key,) = {r.policy_id for r in own}
        assert key is not None
        stored = policies.read(key)
        assert stored.meta.source == "half"
        looked_at = {"on": source, "images": 40}
        assert all(record.report["search"] == {"layers": len(stored.policy), **looked_at} for record in own)
        assert {record.costs["search"].forward_equivalents for record in own} == {3.0}
        for record in own:
            layers = {row["name"]: row for row in record.report["layers"]}
            asked = dict(stored.policy)
            assert {layers[name]["weight_bits"] for name in asked} == {2}
            assert {row["weight_bits"] for name, row in layers.items() if name not in asked} == {8}
            assert all(layers[name]["weight_levels"] <= 4 for name in asked)
    plain = start(installed, f"[{pick.ROUND}]", only=f"source={pick.UPPER}")[0]
    assert plain.policy_id is None
    assert plain.metrics["bitops_g"] > records[0].metrics["bitops_g"]  # type: ignore[operator]
    assert plain.row_id != records[0].row_id


def test_a_damaged_policy_is_searched_again_in_the_same_run(installed: Path) -> None:
    policy = f"[{pick.ROUND}]\n  policy: [half]"
    first = start(installed, policy, only=f"source={CONTROLS[0]}")
    (file,) = (installed / "store" / "artifacts").rglob("policy.json")
    file.write_text(file.read_text().replace("2", "3", 1))
    again = start(installed, policy, only=f"source={CONTROLS[0]}", fresh=True)
    assert [(r.status, r.metrics, r.policy_id) for r in again] == [(r.status, r.metrics, r.policy_id) for r in first]
    assert (again[0].policy_method, again[0].policy_version) == ("half", 1)
    assert set(again[0].costs) == {"synthesis", "search", "compress", "measure"}


def test_what_a_search_cannot_serve_is_not_applicable(installed: Path) -> None:
    suite = installed / "several.yaml"
    axis = f"[{{steps: [prune_structured, {pick.ROUND}]}}]\n  policy: [half]\n  sparsity: [0.2]"
    suite.write_text(dedent(SUITE).replace("COMPRESSOR", axis))
    with pytest.raises(SuiteError, match="a policy is searched on the target"):
        session.plan_of(Options(suite=str(suite)))


def test_the_graph_says_what_needs_what(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = installed / "several.yaml"
    suite.write_text(dedent(SUITE).replace("COMPRESSOR", f"[{pick.ROUND}, adaptive]\n  policy: [half]"))
    plan = session.plan_of(Options(suite=str(suite)))
    graph = json.loads(json.dumps(plan.to_json()))["graph"]
    kinds = [job["kind"] for job in graph]
    assert kinds == ["image batch"] * kinds.count("image batch") + ["policy search"] * 2 + ["compression"] * 4
    seen: set[str] = set()
    for job in graph:
        assert set(job["needs"]) <= seen
        seen.add(job["key"])
    searches = {job["key"] for job in graph if job["kind"] == "policy search"}
    assert all(set(job["needs"]) & searches for job in graph if job["kind"] == "compression")
    jobs = [job for job in plan.graph() if isinstance(job, CompressionJob)]
    assert sorted(len(job.cells) for job in jobs) == [1, 1, 3, 3]


def test_records_of_several_networks_read_back(installed: Path) -> None:
    records = start(installed, "[adaptive]", only=f"source={pick.LOWER}")
    assert sorted(RecordStore(installed / "store").all("several"), key=lambda r: r.cell_id) == sorted(
        records, key=lambda r: r.cell_id
    )
