"""The contracts can fail: methods that break one rule each, dropped in as files, are caught by that rule's check."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.errors import AccessDenied, SuiteError
from bench.spec.registry import Registry
from tests.contracts import (
    breaches_compressors,
    breaches_policies,
    breaches_sources,
    compressors,
    kit,
    policies,
    sources,
)
from tests.contracts.breaches import Breaches

KINDS: dict[str, tuple[type[kit.Case], tuple[Callable[[Any], None], ...], Breaches]] = {
    "sources": (sources.Source, sources.CHECKS, breaches_sources.BREACHES),
    "compressors": (
        compressors.CompressorCase,
        compressors.CHECKS,
        breaches_compressors.BREACHES,
    ),
    "policies": (policies.Search, policies.CHECKS, breaches_policies.BREACHES),
}
PAIRS = [(kind, name) for kind, (_, _, breaches) in KINDS.items() for name in breaches.found]
GOOD = "Good"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A package of methods with a file for each breach, and one that breaks nothing."""
    root = tmp_path_factory.mktemp("plugins")
    for kind, (_, _, breaches) in KINDS.items():
        folder = root / "breaching_methods" / kind
        folder.mkdir(parents=True)
        for name in (GOOD, *breaches.found):
            module = f"tests.contracts.breaches_{kind}"
            what = GOOD if name == GOOD else f"BREACHES.found[{name!r}][0]"
            text = f"from {module} import {what.partition('.')[0]}\n\nMETHOD = {what}()\n"
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        yield "breaching_methods"
    for name in [name for name in sys.modules if name.startswith("breaching_methods")]:
        del sys.modules[name]


def case(kind: str, name: str, package: str) -> kit.Case:
    return KINDS[kind][0](name, Registry(kind, package).get(name))


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_a_breach_is_caught(kind: str, name: str, package: str) -> None:
    _, check = KINDS[kind][2].found[name]
    with pytest.raises((AssertionError, AccessDenied, SuiteError)):
        check(case(kind, name, package))


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_that_keeps_the_contract_passes(kind: str, package: str) -> None:
    for check in KINDS[kind][1]:
        check(case(kind, GOOD, package))


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_has_a_breach(kind: str) -> None:
    _, checks, breaches = KINDS[kind]
    assert {check for _, check in breaches.found.values()} == set(checks)


def test_contracts_are_about_files_found_now() -> None:
    """The registry's names are the public files of the folder: nothing is left out of the contracts."""
    root = Path(__file__).parents[2] / "methods"
    for kind in ("sources", "compressors"):
        files = {path.stem for path in (root / kind).glob("*.py") if not path.stem.startswith("_")}
        assert files <= set(kit.installed(kind))
