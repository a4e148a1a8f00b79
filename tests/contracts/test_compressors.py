"""Every registered compressor keeps the contract; a new file is under it without a line here."""

from __future__ import annotations

import pytest

from bench.spec.registry import Registry
from tests.contracts import kit
from tests.contracts.compressors import CHECKS, CompressorCase


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", kit.installed("compressors"))
def test_compressor(name: str, check: kit.Check) -> None:
    check(CompressorCase(name, Registry("compressors").get(name)))
