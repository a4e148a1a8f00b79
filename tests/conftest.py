"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A machine that is busy with other work is no fault of the code: no example fails for the time it took.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _own_interrupts() -> Iterator[None]:
    """The command line's edge ignores further interrupts, which is right for a process that ends and no other: without
    this every process started later by these tests would be born deaf to Ctrl-C, as one is that a background shell
    starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)
