"""Methods in files that cheat (docs/architecture.md#apart): each way is stopped, or changes no row.

One run holds them all: a source, a search and three compressors, beside an honest quantiser.  The images, bits and
networks behind the cheats are honest, so every row that stands must be what it is without them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from rich.console import Console
from torch import nn

from bench.measure.accuracy import evaluate, marked, predictions
from bench.run import session
from bench.run.session import Options
from bench.spec.plugins import read_plugin
from bench.store.artifacts import ArtifactStore
from bench.store.records import ResultRecord
from tests import pick

from .packages import OPENED

EQUAL = pick.first("policies", control=True)

WAYS = (
    """
    import sys
    from pathlib import Path

    import torch
    from torch import nn

    from bench.interfaces import Compressed, MethodParams
    from bench.spec.registry import Registry


"""
    + OPENED
    + """

    def callers():
        \"\"\"The variables of every caller.\"\"\"
        frame = sys._getframe(1)
        while frame is not None:
            yield from list(frame.f_locals.values())
            frame = frame.f_back


    def by_frames():
        owner = next(value for value in callers() if hasattr(value, "dataset") and hasattr(value, "sealed"))
        return len(owner.dataset("fashion_mnist").test().labels)


    def by_patch():
        import bench.measure.accuracy
        import bench.run.compression

        bench.measure.accuracy.marked = bench.run.compression.marked = lambda *_: (100.0, [True] * 100)
        torch.Tensor.where = lambda self, *_: self
        return "patched"


    def ways_of(ctx, method):
        def by_tier():
            for holder in (method, type(method), ctx.data, type(ctx.data)):
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

        def by_its_door():
            from bench.run.apart.wire import Message

            return ctx.data._ask(Message("test_images"))

        return tried(by_import, by_file, by_frames, by_tier, by_a_cleared_audit, by_its_door, by_patch)
"""
)

SOURCE = """
    class Cheat(type(Registry("sources").get("@LOWER"))):
        def synthesize_batch(self, request, ctx):
            made = super().synthesize_batch(request, ctx)
            made.info["ways"] = ways_of(ctx, self)
            return made


    METHOD = Cheat()
"""

SEARCH = """
    class Cheat(type(Registry("policies").get("@EQUAL"))):
        def search(self, model, images, setting, params, ctx):
            found = super().search(model, images, setting, params, ctx)
            found.report["ways"] = ways_of(ctx, self)
            return found


    METHOD = Cheat()
"""

COMPRESSOR = """
    from dataclasses import replace

    ROUND = Registry("compressors").get("@ROUND")


    class Params(ROUND.Params):
        way: str = "frames"


    class Peeks(nn.Module):
        \"\"\"Answers with whatever its callers know of the labels; else as the network does.\"\"\"

        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            logits = self.network(images)
            for value in callers():
                labels = value if isinstance(value, torch.Tensor) else None
                if labels is not None and labels.dtype == torch.int64 and labels.shape == (len(images),):
                    if labels.min() >= 0:
                        return nn.functional.one_hot(labels, logits.shape[1]).float()
            return logits


    def claim():
        \"\"\"Let the process say of every record that its network is always right.\"\"\"
        line = next(value for value in callers() if hasattr(value, "tell"))
        tell = line.tell

        def told(kind, body, **tensors):
            for record in body.get("records", ()):
                record["metrics"]["top1"], record["metrics"]["fp_top1"], record["audit"] = 100.0, 1.0, []
                record["access"], record["source"], record["test_count"] = "T0", "real", 7
            tell(kind, body, **tensors)

        line.tell = told


    class Cheat(type(ROUND)):
        Params = Params

        def compress(self, model, images, setting, params, ctx):
            made = super().compress(model, images, setting, params, ctx)
            tried(by_import, by_file)
            if params.way == "patch":
                by_patch()
            if params.way == "claim":
                claim()
            if params.way == "frames":
                return replace(made, variants=tuple(replace(v, module=Peeks(v.module).eval()) for v in made.variants))
            return made


    METHOD = Cheat()
"""

SUITE = """
    suite: cheats
    version: 1
    dataset: fashion_mnist
    grid:
      source: [SOURCE]
      target: [resnet18_w10]
      policy: [POLICY]
      compressor: COMPRESSORS
      bits: [W8A8]
    images: 16
    seeds: [0]
    test_subset: 100
"""
FOREIGN = "{cheat_rounding: {way: WAY, label: WAY}}"


def start(
    folder: Path, name: str, grid: tuple[str, str, str], plugins: tuple[Path, ...] = (), workers: int = 0
) -> list[ResultRecord]:
    suite = folder / f"{name}.yaml"
    text = dedent(SUITE)
    for word, value in zip(("SOURCE", "POLICY", "COMPRESSORS"), grid, strict=True):
        text = text.replace(word, value)
    suite.write_text(text)
    options = Options(str(suite), workers=workers, tracker="none", store=folder / name, plugins=plugins)
    return session.run(options, Console(quiet=True))[1]


def written(folder: Path) -> dict[str, Path]:
    """The three cheating files."""
    named = {"@LOWER": pick.LOWER, "@EQUAL": EQUAL, "@ROUND": pick.ROUND}
    files = {}
    for name, text in {"cheat_source": SOURCE, "cheat_search": SEARCH, "cheat_rounding": COMPRESSOR}.items():
        whole = dedent(WAYS) + dedent(text)
        for mark, method in named.items():
            whole = whole.replace(mark, method)
        files[name] = folder / f"{name}.py"
        files[name].write_text(whole)
    return files


def test_where_labels_lie_in_a_caller_the_network_is_always_right(tmp_path: Path) -> None:
    """The cheat works, so that the run below can fail; where there are answers alone it finds nothing."""
    pick.need_small_runs()
    method = read_plugin(written(tmp_path)["cheat_rounding"]).method
    peeks = sys.modules[type(method).__module__].Peeks(nn.Linear(4, 3)).eval()
    data, kept = torch.randn(30, 4), [torch.arange(30) % 3]  # no variable here is the labels themselves
    assert evaluate(peeks, [(data, kept[0])], device="cpu")[0] == 100
    answers = predictions(peeks, [(data, torch.full((30,), -1))], device="cpu")
    honest = evaluate(peeks.network, [(data, kept[0])], device="cpu")[0]
    assert marked(answers, kept[0])[0] == honest != 100


@pytest.mark.slow
def test_cheating_plugins_are_stopped_or_change_no_row(tmp_path: Path) -> None:
    pick.need_small_runs()
    files = tuple(written(tmp_path).values())

    (honest,) = start(tmp_path, "honest", (pick.LOWER, EQUAL, f"[{pick.ROUND}]"))
    ways = ", ".join(FOREIGN.replace("WAY", way) for way in ("frames", "claim", "patch"))
    axes = ("cheat_source", "cheat_search", f"[{ways}, {pick.ROUND}]")
    found = start(tmp_path, "cheated", axes, files, workers=1)

    rows = {record.compressor: record for record in found}
    assert {name: record.status for name, record in rows.items()} == {
        "frames": "ok",
        "claim": "ok",
        "patch": "failed",
        pick.ROUND: "ok",
    }, [record.reason for record in found]
    assert honest.metrics["top1"] != 100  # else nothing below could fail
    for name in ("frames", "claim", pick.ROUND):
        row = rows[name]
        assert (row.metrics, row.correct, row.test_count) == (honest.metrics, honest.correct, honest.test_count), name
        assert (row.source, row.access) == ("cheat_source", honest.access)
        assert row.provenance["brought"]["cheat_source"]["by"] == "file cheat_source.py"
    assert "what measures was changed" in str(rows["patch"].reason)
    assert rows["patch"].metrics == {}
    _tells_what_was_tried(rows[pick.ROUND], ArtifactStore(tmp_path / "cheated"))


def _tells_what_was_tried(row: ResultRecord, store: ArtifactStore) -> None:
    assert row.synth_id is not None
    stopped = {
        "by_import": "AccessDenied",
        "by_file": "AccessDenied",
        "by_frames": "AccessDenied",
        "by_tier": "AccessDenied",
        "by_a_cleared_audit": "AttributeError",
        "by_its_door": "AccessDenied",
        "by_patch": "got patched",  # in a process that measures nothing
    }
    assert store.meta(row.synth_id, 0).info["ways"] == stopped
    assert row.report["search"]["ways"] == stopped
    assert all(entry["denied"] for entry in row.audit)
    reads = [entry["read"] for entry in row.audit]
    assert {"labelled training images", "the complete training set"} <= set(reads)
    assert "fashion_mnist_test_labels.xz" in {Path(read).name for read in reads}
