"""A folder of large images never lies in memory as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.data.folders import KEEP_BYTES
from tests.data.peak import SIDE, peak_above_imports

COUNT = 900


@pytest.mark.slow
def test_a_run_on_large_images_takes_little_memory(tmp_path: Path) -> None:
    """1.5 GB for 2,000 images, so much less for 900; tests/benchmarks/test_memory.py takes all 2,000."""
    assert COUNT * 3 * SIDE * SIDE > KEEP_BYTES  # they are decoded anew for every use, as 50,000 would be
    assert peak_above_imports(tmp_path, COUNT, "mobilenetv3_small_050") < 1500 * COUNT / 2000
