"""The gate at a source's networks: cells whose images cannot be made are skipped as those of an unsound target are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from bench.interfaces import ModelHandle
from bench.zoo import targets
from tests import pick

from .conftest import Run, inverting_suite
from .packages import install

UNSOUND = "vgg_bn_w12"
FULL = f"fashion_mnist/{UNSOUND}"

PACKAGE = """
    from bench.spec.registry import Registry


    class Elsewhere(type(Registry("sources").get("@SOURCE"))):
        def synthesize_batch(self, request, ctx):
            raise RuntimeError("its code ran")


    METHOD = Elsewhere()
"""


def to_nan(net: nn.Module) -> None:
    next(net.parameters()).data.view(-1)[:3] = float("nan")


def to_half(net: nn.Module) -> None:
    net.half()


@pytest.fixture
def inverting(suite: Path) -> str:
    """The simplest source that inverts one network it is named."""
    return pick.name("sources", models="one", label_kind="assigned", needs="bn", params=("iterations", "batch"))


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[nn.Module], None]], None]:
    """Let the network be loaded spoilt."""
    load = targets.load

    def by(change: Callable[[nn.Module], None]) -> None:
        def spoilt(name: str) -> ModelHandle:
            handle = load(name)
            if name == FULL:
                change(handle.module)
            return handle

        monkeypatch.setattr(targets, "load", spoilt)

    return by


def written(suite: Path, source: str, method: str) -> None:
    fields = pick.values("sources", method, iterations=1, batch=32, images=32)
    row = fields.replace(f'"{method}": {{', f'"{source}": {{"model": "{UNSOUND}", ')
    suite.write_text(inverting_suite(row))


@pytest.mark.parametrize(
    ("change", "says"),
    [(to_nan, "has 3 of 108 values not finite"), (to_half, "is float16; networks compute in float32")],
)
def test_cells_of_an_unsound_networks_images_are_skipped(
    run: Run, suite: Path, inverting: str, spoil: Callable[..., None], change: Callable[[nn.Module], None], says: str
) -> None:
    written(suite, inverting, inverting)
    spoil(change)
    lower, found = run()
    assert lower.status == "ok"
    assert (found.status, found.traceback) == ("skipped", None)
    assert (found.reason or "").startswith("fp_gate: ")
    assert (found.reason or "").endswith(f"{says} ({FULL})")


def test_a_skipped_cell_is_tried_again(run: Run, suite: Path, inverting: str, spoil: Callable[..., None]) -> None:
    written(suite, inverting, inverting)
    spoil(to_nan)
    assert [record.status for record in run()] == ["ok", "skipped"]
    spoil(lambda _: None)
    assert [record.status for record in run()] == ["ok", "ok"]


def test_an_installed_sources_networks_are_looked_at_before_its_code_runs(
    run: Run,
    suite: Path,
    inverting: str,
    spoil: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = PACKAGE.replace("@SOURCE", inverting)
    install(tmp_path / "site", "elsewhere_pkg", text, {"sources": {"elsewhere": "elsewhere_pkg:METHOD"}}, monkeypatch)
    written(suite, "elsewhere", inverting)
    spoil(to_nan)
    lower, found = run()
    assert (lower.status, found.status) == ("ok", "skipped")
    assert (found.reason or "").startswith("fp_gate: ")
