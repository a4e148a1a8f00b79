"""Every registered search of bit policies keeps the contract; there may be none yet."""

from __future__ import annotations

import pytest

from bench.spec.registry import Registry
from tests.contracts import kit
from tests.contracts.policies import CHECKS, Search


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", kit.installed("policies"))
def test_search(name: str, check: kit.Check) -> None:
    check(Search(name, Registry("policies").get(name)))
