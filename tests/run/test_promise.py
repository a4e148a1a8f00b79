"""The data promise, against an installed package whose methods break it (docs/architecture.md#apart).

Each way to cheat is stopped or recorded, and the honest row after it in the same run is what it is without a cheat.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from rich.console import Console

from bench.measure import accuracy
from bench.run import session
from bench.run.integrity import Changed
from bench.run.session import Options
from bench.store.artifacts import ArtifactStore
from bench.store.records import ResultRecord
from tests import pick

from .conftest import assert_same
from .packages import OPENED, install

CHEATS = (
    """
    from pathlib import Path

    import torch

    from bench.interfaces import MethodParams
    from bench.spec.registry import Registry

    LOWER, ROUND = Registry("sources").get("@LOWER"), Registry("compressors").get("@ROUND")


"""
    + OPENED
    + """

    def patched():
        import bench.measure.accuracy
        import bench.run.compression
        import numpy as np

        def perfect(module, data, **_):
            return 100.0, np.ones(sum(len(labels) for _, labels in data), dtype=bool)

        bench.measure.accuracy.evaluate = bench.run.compression.evaluate = perfect
        torch.Tensor.argmax = lambda self, **_: self[:, 0].long()
        return "patched"


    class Cheat(type(LOWER)):
        def synthesize_batch(self, request, ctx):
            def by_handle():
                return len(ctx.data._dataset.test().labels)

            def by_tier():
                for holder in (self, type(self), ctx.data, type(ctx.data)):
                    try:
                        holder.access = holder._tier = holder.tier = "T6"
                    except AttributeError:
                        pass
                return len(ctx.data.train_images(10, torch.Generator())[1])

            def by_a_cleared_audit():
                try:
                    ctx.data.training_set()
                finally:
                    ctx.data.audit.clear()

            def by_a_forged_record():
                (Path("@STORE") / "cheated" / "records" / "forged.json").write_text("{}")

            made = super().synthesize_batch(request, ctx)
            ways = (by_import, by_file, by_handle, by_tier, by_a_cleared_audit, by_a_forged_record, patched)
            made.info["ways"] = tried(*ways)
            return made


    class Patches(type(ROUND)):
        def compress(self, model, images, setting, params, ctx):
            made = super().compress(model, images, setting, params, ctx)
            tried(by_import, by_file, patched)
            model.module.register_forward_hook(lambda *_: None)
            return made


    CHEAT, PATCHES = Cheat(), Patches()
"""
)

SUITE = """
    suite: cheats
    version: 1
    dataset: fashion_mnist
    grid:
      source: [SOURCES]
      target: [resnet18_w10]
      compressor: [COMPRESSORS]
      bits: [W8A8]
    images: 16
    seeds: [0]
    test_subset: 100
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the cheating package installed."""
    pick.need_small_runs()
    text = CHEATS.replace("@LOWER", pick.LOWER).replace("@ROUND", pick.ROUND).replace("@STORE", str(tmp_path))
    points = {"sources": {"cheat": "cheats:CHEAT"}, "compressors": {"patches": "cheats:PATCHES"}}
    install(tmp_path / "site", "cheats", text, points, monkeypatch)
    return tmp_path


def start(folder: Path, sources: str, compressors: str, store: str, workers: int = 0) -> list[ResultRecord]:
    suite = folder / f"{store}.yaml"
    suite.write_text(dedent(SUITE).replace("SOURCES", sources).replace("COMPRESSORS", compressors))
    options = Options(str(suite), workers=workers, tracker="none", store=folder / store)
    return session.run(options, Console(quiet=True))[1]


@pytest.mark.slow
def test_a_cheating_source_reads_nothing_and_changes_no_row_after_it(site: Path) -> None:
    honest = start(site, pick.LOWER, pick.ROUND, "honest")
    records = start(site, f"cheat, {pick.LOWER}", pick.ROUND, "cheated", workers=1)
    assert [(r.source, r.status, r.reason) for r in records] == [("cheat", "ok", None), (pick.LOWER, "ok", None)]
    assert_same(records[1:], honest)
    assert records[0].metrics == honest[0].metrics  # its images are the honest ones, and so is its row
    assert records[0].synth_id is not None
    meta = ArtifactStore(site / "cheated").meta(records[0].synth_id, 0)
    assert meta.info["ways"] == {
        "by_import": "AccessDenied",
        "by_file": "AccessDenied",
        "by_handle": "AttributeError",
        "by_tier": "AccessDenied",
        "by_a_cleared_audit": "AttributeError",
        "by_a_forged_record": "AccessDenied",
        "patched": "got patched",
    }
    reads = [entry["read"] for entry in records[0].audit]
    assert all(entry["denied"] for entry in records[0].audit)
    files = [Path(read).name for read in reads if "/" in read]
    assert files == ["fashion_mnist.json", "fashion_mnist_test_labels.xz", "forged.json"]
    assert [read for read in reads if "/" not in read] == ["labelled training images", "the complete training set"]
    assert not list(site.glob("*/records/forged.json"))


@pytest.mark.slow
def test_a_compressor_that_patches_the_measurement_fails_and_the_next_row_is_right(site: Path) -> None:
    honest = start(site, pick.LOWER, pick.ROUND, "honest")
    records = start(site, pick.LOWER, f"patches, {pick.ROUND}", "cheated")
    assert [(r.compressor, r.status) for r in records] == [("patches", "failed"), (pick.ROUND, "ok")]
    assert_same(records[1:], honest)
    said = str(records[0].reason)
    assert "what measures was changed" in said
    for name in ("bench.measure.accuracy.evaluate", "bench.run.compression.evaluate", "argmax", "resnet18_w10"):
        assert name in said
    assert records[0].metrics == {}
    assert [Path(entry["read"]).name for entry in records[0].audit if entry["denied"]] == [
        "fashion_mnist.json",
        "fashion_mnist_test_labels.xz",
    ]


def test_a_package_that_patches_the_measurement_when_it_is_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick.need_small_runs()
    text = f"""
        import bench.measure.accuracy
        from bench.spec.registry import Registry

        bench.measure.accuracy.evaluate = lambda *_, **__: (100.0, None)
        METHOD = type(Registry("sources").get("{pick.LOWER}"))()
    """
    install(tmp_path / "site", "early", text, {"sources": {"early": "early"}}, monkeypatch)
    monkeypatch.setattr(accuracy, "evaluate", accuracy.evaluate)  # put back when the test ends
    with pytest.raises(Changed, match=r"bench\.measure\.accuracy\.evaluate"):
        start(tmp_path, f"early, {pick.LOWER}", pick.ROUND, "store")
    assert not list((tmp_path / "store").glob("records/*"))
