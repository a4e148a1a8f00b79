"""What holds for every test."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# A machine that is busy with other work is no fault of the code: no example fails for the time it took.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _own_interrupts() -> Iterator[None]:
    """The command line's edge ignores further interrupts, which is right for a process that ends and no other: without
    this every process started later by these tests would be born deaf to Ctrl-C, as one is that a background shell
    starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def packs_known(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[Path], None]:
    """Makes a cache, a test's own BENCH_DATA, one that an earlier command has left: it holds the index of the package's
    own records. It is built once for all tests; some seconds of work otherwise, for each of a hundred tests."""
    from bench.board.index.board_index import BoardIndex

    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "packs_known"
    with FileLock(f"{folder}.lock"):  # of all test workers
        BoardIndex(None, folder).snapshot()

    def known(cache: Path) -> None:
        shutil.copytree(folder, cache / "index", dirs_exist_ok=True)

    return known
