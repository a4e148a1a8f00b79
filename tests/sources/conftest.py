from __future__ import annotations

import pytest

from bench.interfaces import ModelHandle
from tests.sources.toy import handle, trained


@pytest.fixture(scope="session")
def zoo() -> tuple[ModelHandle, ...]:
    """Three briefly trained toy networks."""
    return tuple(handle(trained(width, seed), f"toy{width}") for seed, width in enumerate((6, 8, 10)))
