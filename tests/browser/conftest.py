"""The real server over a store, and Debian's Chromium with an empty profile; nothing but loopback is reached."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TIMEOUT = 60_000  # ms
COMMAND = [sys.executable, "-c", "from dashboard.cli import main; main()", "dashboard", "--no-browser", "--port", "0"]

Serve = Callable[..., str]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory, packs_known: Callable[[Path], None]) -> Iterator[Serve]:
    """Start `bench dashboard` over a store (none: the measured rows alone); returns its address."""
    processes: list[subprocess.Popen[str]] = []

    def start(store: Path | None = None) -> str:
        folder = tmp_path_factory.mktemp("server")
        packs_known(folder / "cache")
        env = {**os.environ, "BENCH_DATA": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        command = [*COMMAND, *(("--store", str(store)) if store else ())]
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                return found[0]
        pytest.fail(f"the server ended with {process.wait()}")

    yield start
    for process in processes:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def shipped(serve: Serve) -> str:
    """The address of a dashboard over the committed measured rows."""
    return serve()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "no Chromium; `make test-browser` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Tab:
    """A page with a profile of its own, and what went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.set_default_timeout(TIMEOUT)
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("request", lambda request: self._reached(request.url))

    def _reached(self, url: str) -> None:
        if urlsplit(url).hostname not in ("127.0.0.1", None):
            self.wrong.append(f"reached {url}")

    def open(self, url: str) -> Tab:
        """Go there and wait until the page is drawn."""
        self.page.goto(url)
        self.page.wait_for_selector('[data-testid="stMainBlockContainer"] h1')
        return self.settle()

    def settle(self) -> Tab:
        """Until the script has run and what it sent is drawn."""
        self.page.wait_for_timeout(300)
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        self.page.wait_for_selector('[data-stale="true"]', state="detached")
        self.page.wait_for_function("!document.querySelector('[data-testid=\"stSkeleton\"]')")  # parts loaded late
        self.page.wait_for_timeout(200)
        return self

    def text(self) -> str:
        return self.page.locator('[data-testid="stMainBlockContainer"]').inner_text()

    def rows(self) -> list[str]:
        """The lines of the page's tables."""
        return self.page.locator(".df-table tbody tr").all_inner_texts()

    def check(self) -> None:
        """No error box, no error of a script, nothing outside reached."""
        boxes = self.page.locator('[data-testid="stException"], [data-testid="stAlertContentError"]')
        assert boxes.all_inner_texts() == []
        assert self.wrong == []


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Callable[[], Tab]]:
    """Open a tab with an empty profile."""
    contexts = []

    def new() -> Tab:
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        contexts.append(context)
        return Tab(context.new_page())

    yield new
    for context in contexts:
        context.close()


def pages(tab: Tab, url: str) -> dict[str, str]:
    """Title → address of every page, as the navigation offers them."""
    tab.open(url)
    links = tab.page.locator('[data-testid="stSidebarNavLink"]')
    found = {link.inner_text().strip(): link.get_attribute("href") or "" for link in links.all()}
    return {title: address if "://" in address else f"{url}{address}" for title, address in found.items()}
