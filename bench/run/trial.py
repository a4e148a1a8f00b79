"""One small real run of a method in a file, for its test: the smallest target, few images, the simplest neighbours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.run.session import Options, run
from bench.spec.catalogue import ShippedCatalogue, short_name
from bench.spec.plugins import Plugin, read_plugin
from bench.spec.registry import Registry
from bench.store.records import ResultRecord

DATASET = "fashion_mnist"
ASKED = {"bits": "W8A8", "sparsity": 0.5}
"""What is asked of a compressor that takes it."""


def trial(file: Path, folder: Path, images: int = 16, tested: int = 100) -> ResultRecord:
    """The record of one cell with the method in ``file``: made apart, as in any run, from ``images`` images of its mini
    preset, and measured on ``tested`` test images.

    Args:
        folder: a new or empty one, for the suite and its store.

    Raises:
        BenchError: the file is no method, or nothing can run with it.
    """
    plugin = read_plugin(file)
    suite = folder / "trial.yaml"
    suite.write_text(json.dumps(_suite(plugin, images, tested)), encoding="utf-8")
    options = Options(str(suite), workers=0, tracker="none", store=folder / "store", plugins=(file,))
    return run(options, Console(quiet=True))[1][0]


def _suite(plugin: Plugin, images: int, tested: int) -> dict[str, Any]:
    catalogue = ShippedCatalogue()
    sizes = {name: catalogue.info(name).macs or 0 for name in catalogue.targets(DATASET)}
    target = short_name(DATASET, min(sizes, key=lambda name: (sizes[name], name)))
    grid: dict[str, Any] = {
        "source": [_simplest(catalogue.sources, control="lower")],
        "target": [target],
        "compressor": [_simplest(catalogue.compressors, accepts=frozenset({"bits"}))],
    }
    axis = {"sources": "source", "compressors": "compressor", "policies": "policy"}[plugin.kind]
    grid[axis] = [plugin.name]
    accepts = plugin.method.accepts if plugin.kind == "compressors" else {"bits"}
    asked = {**ASKED, "student": target}
    grid |= {name: [value] for name, value in asked.items() if name in accepts}
    return {
        "suite": "trial",
        "version": 1,
        "dataset": DATASET,
        "grid": grid,
        "images": images,
        "seeds": [0],
        "test_subset": tested,
    }


def _simplest(registry: Registry, **declared: object) -> str:
    """The product's own method of the fewest parameters that declares so."""
    methods = {name: registry.get(name) for name in registry.names() if registry.own(name)}
    fitting = [n for n, m in methods.items() if all(getattr(m, key) == value for key, value in declared.items())]
    return min(fitting, key=lambda name: (len(methods[name].Params.model_fields), name))
