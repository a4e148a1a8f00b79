"""Packages with methods, as pip would install them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

OPENED = """
    def tried(*ways):
        \"\"\"What became of each way; a cheat says nothing of its failures itself.\"\"\"
        found = {}
        for way in ways:
            try:
                found[way.__name__] = f"got {way()}"
            except Exception as error:
                found[way.__name__] = type(error).__name__
        return found


    def by_import():
        from bench.data.datasets import get_dataset

        return len(get_dataset("fashion_mnist").test().labels)


    def by_file():
        import bench.data

        return len((Path(bench.data.__file__).parent / "embedded" / "fashion_mnist_test_labels.xz").read_bytes())
"""
"""What every cheating method tries first, indented as the texts it is put into."""


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
