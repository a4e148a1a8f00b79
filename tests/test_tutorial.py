"""docs/tutorial.md, block by block as a reader would: files saved under the names it gives, commands run in order."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.spec.registry import GROUPS
from bench.store.record_store import RecordReader
from dashboard.cli import app
from tests import pick

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"Save this as `([\w.]+)`:\s*\Z")


def blocks() -> list[tuple[str, str, str]]:
    """(language, name of the file it is saved under or "", text) of every block of the page."""
    page = PAGE.read_text(encoding="utf-8")
    found = []
    for block in BLOCK.finditer(page):
        named = NAMED.search(page[: block.start()])
        found.append((block[1], named[1] if named else "", block[2]))
    assert page.count("```") == 2 * len(found)
    return found


def test_the_method_is_short() -> None:
    (text,) = (text for _, name, text in blocks() if name.endswith(".py"))
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 60


def test_its_package_names_the_groups_that_are_read() -> None:
    (text,) = (text for language, _, text in blocks() if language == "toml")
    (group,) = tomllib.loads(text)["project"]["entry-points"]
    assert group == GROUPS[0].format("sources")
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"`{GROUPS[0].format(kind)}`" in page for kind in ("compressors", "policies"))


@pytest.mark.slow
def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pick.need_small_runs()
    monkeypatch.chdir(tmp_path)
    for language, name, text in blocks():
        if name:
            Path(name).write_text(text, encoding="utf-8")
        elif language == "sh":
            for command in text.splitlines():
                program, *words = shlex.split(command)
                assert program == "bench"
                done = CliRunner().invoke(app, words)
                assert done.exit_code == 0, f"{command}: {done.output} {done.exception!r}"
        elif language == "python":
            exec(compile(text, "tutorial", "exec"), {})  # noqa: S102 - it is the page's own
        else:
            assert language == "toml"
    said = capsys.readouterr().out
    for name in ("bn_pull", "ood"):
        assert re.search(rf"^{name}: rank [12] \([12] to [12]\), \d+\.\d\d % top-1$", said, re.MULTILINE), said
    mine = [record for record in RecordReader(Path(".bench")).all("mine") if record.source == "bn_pull"]
    assert [record.status for record in mine] == ["ok", "ok"]
    assert len({record.row_id for record in mine}) == 1
    for record in mine:
        curve = [value for _, value in record_curve(record.synth_id)]
        assert curve[-1] < curve[0]
        assert record.costs["synthesis"].forward_equivalents == 2 * 10 * 32


def record_curve(synth_id: str | None) -> list[tuple[int, float]]:
    """The distance its source logged."""
    from bench.store.artifacts import ArtifactStore

    assert synth_id is not None
    return list(ArtifactStore(Path(".bench")).meta(synth_id, 0).curves["bn distance"])
