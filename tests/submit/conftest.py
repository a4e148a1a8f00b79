"""One small real run, and the submission made of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.run import session
from bench.run.session import Options
from bench.store.files import write_atomic
from bench.store.measured import xz
from bench.store.seals import sealed
from bench.submit.package import Submission, make_submission, to_json, write_submission
from tests import pick

SUITE = f"""suite: mine
version: 1
dataset: fashion_mnist
grid:
  source: [{pick.UPPER}, {pick.LOWER}]
  target: [resnet18_w10]
  compressor: [{pick.ROUND}]
  bits: [W4A4]
images: 40
seeds: [0, 1]
test_subset: 200
"""

quiet = Console(file=io.StringIO())


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """How the suite was run, into a store of its own."""
    pick.need_small_runs()
    folder = tmp_path_factory.mktemp("submitter")
    (folder / "mine.yaml").write_text(SUITE)
    options = Options(
        str(folder / "mine.yaml"), overrides=("images=20",), workers=0, tracker="none", store=folder / "store"
    )
    _, records = session.run(options, quiet)
    assert [record.status for record in records] == ["ok"] * 4, records[0].reason
    return options


@pytest.fixture(scope="session")
def made(ran: Options, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Submission]:
    """The submission's file, and what it holds."""
    path = tmp_path_factory.mktemp("sent") / "mine.json.xz"
    return path, write_submission(make_submission(ran, "A. Lovelace"), path)


@pytest.fixture
def raw(made: tuple[Path, Submission]) -> dict[str, Any]:
    """The submission's JSON value, free to be changed."""
    copy: dict[str, Any] = json.loads(json.dumps(to_json(made[1])))
    return copy


def resealed(raw: dict[str, Any], path: Path) -> Path:
    """What a forger writes: the changed content with a digest that fits it."""
    write_atomic(path, xz(sealed(raw)))
    return path
