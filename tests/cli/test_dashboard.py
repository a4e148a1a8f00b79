"""`bench dashboard` as a user starts it: the real server, its address, its end, and what it refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bench.store.record_store import RecordStore

BENCH = [sys.executable, "-c", "from dashboard.cli import main; main()"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "BENCH_DATA": str(tmp_path / "cache")}


def bench(folder: Path, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*BENCH, "dashboard", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture
def served(
    tmp_path: Path, env: dict[str, str], packs_known: Callable[[Path], None]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command at work, in a folder without a store, and the address it printed."""
    packs_known(tmp_path / "cache")
    command = [*BENCH, "dashboard", "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    found = next((m for line in lines if (m := re.search(r"http://127\.0\.0\.1:\d+", line))), None)
    assert found, process.wait()
    yield process, found[0]
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_this_machine_only_and_ends_cleanly(
    served: tuple[subprocess.Popen[str], str], how: signal.Signals
) -> None:
    process, url = served
    with urllib.request.urlopen(f"{url}/_stcore/health", timeout=10) as answer:
        assert answer.status == 200
    (server,) = psutil.Process(process.pid).children()
    listening = {c.laddr.ip for c in server.net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    process.send_signal(how)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    assert "dashboard ended" in said
    assert not server.is_running()


def test_the_index_is_built_and_nothing_else(tmp_path: Path, env: dict[str, str]) -> None:
    done = bench(tmp_path, env, "--build-only")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ records in \d+ rows", done.stdout)
    assert list((tmp_path / "cache").rglob("*.parquet"))
    store = tmp_path / "mine"
    RecordStore(store)
    bad = store / "records" / "s@1" / f"{'ab' * 16}.json"
    bad.parent.mkdir(parents=True)
    bad.write_text("{")
    done = bench(tmp_path, env, "--build-only", "--store", "mine")
    assert done.returncode == 0
    assert "damaged" in done.stderr


def test_what_it_refuses(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "store.json").write_text('{"schema": 99}')
    (tmp_path / "file").write_text("")
    cases = [(["--store", name], says) for name, says in (("none", "is no store"), ("newer", "newer version"))]
    cases += [(["--store", "."], "is no store"), (["--store", "file"], "file")]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cases.append((["--port", str(taken.getsockname()[1])], "--port N"))
        for arguments, says in cases:
            done = bench(tmp_path, env, *arguments)
            assert done.returncode == 2, (arguments, done.stdout, done.stderr)
            assert says in done.stderr
            assert "Traceback" not in done.stderr


def test_help_has_examples(tmp_path: Path, env: dict[str, str]) -> None:
    said = bench(tmp_path, env, "--help").stdout
    assert "bench dashboard --store" in said
