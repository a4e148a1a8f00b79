"""Every registered data source keeps the contract; a new file is under it without a line here."""

from __future__ import annotations

import pytest

from bench.spec.registry import Registry
from tests.contracts import kit
from tests.contracts.sources import CHECKS, Source


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", kit.installed("sources"))
def test_source(name: str, check: kit.Check) -> None:
    check(Source(name, Registry("sources").get(name)))
