"""How long a reader waits in Chromium with 20,000 records: the first page and one filter of every page.

``python -m tests.benchmarks.browser [--records N] [--rounds N]``: copies of the shipped records under other networks'
names in a store of their own, removed afterwards; a server over it; medians of the rounds, in seconds as they pass and
of the server's CPU.  Never part of the tests.  Budgets: first page 2 s, filter 0.5 s.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from bench.store.measured import read_measured
from bench.store.record_store import RecordStore
from bench.store.seals import sealed
from tests.browser.conftest import ARGUMENTS, COMMAND

PAGES = (
    "",
    "leaderboard",
    "cross-validation",
    "trade-offs",
    "ablations",
    "images",
    "bits",
    "policies",
    "cell",
    "claims",
)
DRAWN = """() => document.querySelector('[data-testid="stMainBlockContainer"] h1')
  && document.querySelector('[data-testid="stApp"][data-test-script-state="notRunning"]')
  && !document.querySelector('[data-stale="true"], [data-testid="stSkeleton"], [data-testid="stSpinner"]')"""


def copies(root: Path, count: int) -> None:
    """``count`` records: the shipped ones again and again, each time with networks of other names; of the copies the
    reports on layers and the curves, most of their bytes, are left out."""
    RecordStore(root)
    shipped = [record.model_dump(mode="json") for record in read_measured()]
    for number in range(count):
        turn, place = divmod(number, len(shipped))
        raw = shipped[place] | {"target": f"{shipped[place]['target']}_copy{turn}"}
        raw |= {"report": {}, "curves": {}} if turn else {}
        for name in ("cell_id", "row_id", "job_id"):
            if raw[name]:
                raw[name] = hashlib.sha256(f"{raw[name]} {turn}".encode()).hexdigest()[: len(raw[name])]
        folder = root / "records" / f"{raw['suite']}@{raw['suite_version']}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{raw['cell_id']}.json").write_bytes(sealed(raw))


class Server:
    """`bench dashboard` over a store."""

    def __init__(self, store: Path, cache: Path) -> None:
        env = {**os.environ, "BENCH_DATA": str(cache), "OMP_NUM_THREADS": "1"}
        begun = time.perf_counter()
        self.process = subprocess.Popen([*COMMAND, "--store", str(store)], env=env, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+", line) for line in self.process.stdout)))
        self.url, self.started = found[0], time.perf_counter() - begun

    def cpu(self) -> float:
        """Seconds of CPU of the process that serves, which is the command's child."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        fields = Path(f"/proc/{children[0]}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


def timed(server: Server, page: Page, act: Callable[[], Any]) -> tuple[float, float]:
    """Seconds until what ``act`` asked for is drawn, and seconds of the server's CPU."""
    cpu, begun = server.cpu(), time.perf_counter()
    act()
    page.wait_for_timeout(60)  # until the browser has told the server
    page.wait_for_function(DRAWN, polling=20)
    return time.perf_counter() - begun, server.cpu() - cpu


def choose_another(page: Page) -> Callable[[], None]:
    """Open the first select box that offers a choice; returns the click on another option."""
    for box in page.locator('[data-testid="stMainBlockContainer"] [data-testid="stSelectbox"]').all():
        box.locator("input").click()
        options = page.locator('[role="option"]')
        options.first.wait_for()
        others = [option for option in options.all() if option.get_attribute("aria-selected") != "true"]
        if others:
            return others[0].click
        page.keyboard.press("Escape")
    raise LookupError("no filter offers a choice")


def main(argv: list[str] | None = None) -> int:
    """Measure; write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", type=Path, help="keep the records here, and use them where they are")
    parser.add_argument("--only", default="", help="pages, separated by commas; choose is the first")
    asked = parser.parse_args(argv)
    shown = [page for page in PAGES if not asked.only or (page or "choose") in asked.only.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        store = asked.store or Path(scratch) / "store"
        if not (store / "records").exists():
            copies(store, asked.records)
        server = Server(store, (asked.store or Path(scratch)).parent / "cache")
        sys.stdout.write(f"index and start {server.started:.1f} s\n")
        try:
            measure(server, shown, asked.rounds)
        finally:
            server.end()
    return 0


def measure(server: Server, shown: list[str], rounds: int) -> None:
    """One line a page: medians of first view and filter."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=ARGUMENTS
        )
        for path in shown:
            views, filters = [], []
            for _ in range(rounds):
                page = browser.new_context(viewport={"width": 1080, "height": 900}).new_page()
                page.set_default_timeout(300_000)
                views.append(timed(server, page, partial(page.goto, f"{server.url}/{path}")))
                filters.append(timed(server, page, choose_another(page)))
                page.context.close()
            told = [f"{statistics.median(c[i] for c in found):6.2f}" for found in (views, filters) for i in (0, 1)]
            told += [f"{views[0][0]:6.2f} {views[0][1]:6.2f}"]
            line = f"{path or 'choose':18} view {told[0]} s, CPU {told[1]}; filter {told[2]} s, CPU {told[3]}"
            sys.stdout.write(f"{line}; first view {told[4]}\n")
            sys.stdout.flush()
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
