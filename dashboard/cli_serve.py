"""``bench dashboard``: bring the board's index up to date, then serve the pages from this machine to this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Optional

import typer

from bench.cli.options import STORE, err, out
from bench.errors import BenchError, StoreError

LOOPBACK = "127.0.0.1"
PORT = 8501
STARTS_WITHIN = 60.0  # seconds

FLAGS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    # Of the figures' palette; Streamlit's own red would look like an error.  Both: one colour for all would leave the
    # pages no dark mode.
    "theme.light.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#56B4E9",
}
"""Nothing leaves the machine, nothing is watched, no traceback is shown to whoever reads a page."""


def dashboard(
    store: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--store", help=f"Folder of image sets and records. Default: {STORE}, if it is there."),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = PORT,
    address: Annotated[
        str, typer.Option("--address", help="Where to listen; anyone who reaches another than this one can read.")
    ] = LOOPBACK,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    build_only: Annotated[bool, typer.Option("--build-only", help="Bring the index up to date and stop.")] = False,
) -> None:
    """Show the board in a browser: ranks, trade-offs, images, claims, and a run while it works. Ctrl-C ends it.

    The measured rows that came with the package are shown beside the store's own.

    Examples: `bench dashboard` · `bench dashboard --store /data/bench --port 8600` ·
    `bench dashboard --no-browser --port 0` · `bench dashboard --store /data/bench --build-only`
    """
    folder = _store(store)
    if not build_only:
        port = _free_port(address, port)  # before the index, whose making may take a while
    build(folder)
    if not build_only:
        serve(folder, address, port, browser)


def build(store: Path | None) -> None:
    """Bring the index up to date, with a bar where that takes time.

    Raises:
        StoreError: the store is of a newer version, or the cache folder cannot be written.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from bench.board.index.board_index import BoardIndex

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            if done == total or done % 20 == 0 or total < 2000:
                bars.update(tasks[stage], completed=done)  # type: ignore[arg-type]

        found = BoardIndex(store).snapshot(show)
    out.print(f"{len(found.cells)} records in {len(found.table)} rows", highlight=False)
    for problem in found.problems[:5]:
        err.print(problem.says, markup=False, highlight=False)
    if len(found.problems) > 5:
        err.print(f"… and {len(found.problems) - 5} more files that could not be read", highlight=False)


def serve(store: Path | None, address: str, port: int, browser: bool) -> None:
    """Run the pages' server until it is interrupted.

    Raises:
        BenchError: it does not start.
    """
    from bench.board.index.board_index import STORE_VARIABLE

    flags = {**FLAGS, "server.address": address, "server.port": str(port)}
    command = [sys.executable, "-m", "dashboard", *(f"--{k}={v}" for k, v in flags.items())]
    environment = {**os.environ, STORE_VARIABLE: str(store or "")}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else the server would outlive us
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
    try:
        _wait(process, url)
        out.print(f"dashboard: {url}   (Ctrl-C ends it)", highlight=False)
        if address != LOOPBACK:
            out.print(f"anyone who reaches {address} can read this store's records and images", highlight=False)
        if browser:
            with suppress(webbrowser.Error):
                webbrowser.open(url)
        code = _ended(process)
    except KeyboardInterrupt:
        out.print("dashboard ended", highlight=False)
        return
    finally:
        _end(process)
    raise BenchError("the dashboard's server ended by itself", where=url, got=f"exit code {code}")


def _store(given: Path | None) -> Path | None:
    """The store to show; None for the package's records alone when none was named and the usual one is not there."""
    from bench.store.files import check_layout

    store = STORE if given is None else given
    if check_layout(store):
        return store.resolve()
    if given is None:
        return None
    raise StoreError(
        "is no store",
        where=str(given),
        got="a folder without records" if given.is_dir() else "no folder",
        hint="Name the folder that `bench run --store DIR` wrote, or leave --store out.",
    )


def _free_port(address: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise BenchError(
            "cannot listen here",
            where=f"{address}:{port}",
            got=error.strerror,
            hint="Choose another with --port N (0 takes any free one), or end the program that listens there.",
        ) from error


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + STARTS_WITHIN
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), opener.open(f"{url}/_stcore/health", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise BenchError("the dashboard's server does not start", where=url, got=f"exit code {process.poll()}")


def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code, once there is one. In short waits: an interrupt that comes just before an endless wait begins
    would not be seen until the server ends by itself."""
    while (code := process.poll()) is None:
        time.sleep(0.2)
    return code


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server, gently first."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
