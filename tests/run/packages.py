"""Packages with methods, as pip would install them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest


def install(
    site: Path, name: str, text: str, points: Mapping[str, Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Put a package of one module into ``site`` and that onto the path; returns ``site``.

    Args:
        text: the module's source.
        points: kind of method (sources, compressors, policies) → name → "MODULE:ATTRIBUTE".
    """
    info = site / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(dedent(text))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    lines = []
    for kind, places in points.items():
        lines += [f"[datafree_bench.{kind}]", *(f"{method} = {place}" for method, place in places.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(site))
    return site
