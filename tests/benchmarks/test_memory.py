"""Peak memory of `bench run` on a folder of 2,000 images of 224×224 (minutes: make benchmarks)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.data.peak import peak_above_imports

ALLOWED = 1500  # MB


def test_two_thousand_large_images(benchmark: Any, tmp_path: Path) -> None:
    peak = benchmark.pedantic(peak_above_imports, (tmp_path, 2000, "resnet18"), rounds=1)
    benchmark.extra_info["peak MB above imports"] = round(peak)
    assert peak <= ALLOWED
