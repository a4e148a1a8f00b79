"""`bench doctor`: what a run would meet on this machine, and which packs were measured on one like it."""

from __future__ import annotations

import importlib.metadata as metadata
import shutil
from collections import defaultdict
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.errors import BenchError
from bench.machine import alike, machine_key
from bench.store.measured import measured_folder, read_pack
from bench.store.scan import pack_files

PACKAGES = ("torch", "torchvision", "timm", "pandas", "mlflow", "streamlit", "plotly")
OPTIONAL = ("mlflow", "streamlit", "plotly")

_ANSWERS = {True: "this machine", None: "not known", False: "another"}


class _Findings:
    """A table of what was found, and whether all is well."""

    def __init__(self) -> None:
        self.table, self.good = Table("", "found", ""), True

    def line(self, name: str, found: str, fine: bool = True) -> None:
        self.good &= fine
        self.table.add_row(name, found, "ok" if fine else Text("trouble", style="red"))


def show_doctor(store: Path, console: Console) -> bool:
    """Print what a run would meet on this machine; whether all is well."""
    from bench import runtime

    found, here = _Findings(), runtime.facts("cpu", 1)
    for package in PACKAGES:
        try:
            found.line(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            found.line(package, "not installed", fine=package in OPTIONAL)
    _machine(found, here)
    place = next(p for p in (store, *store.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free / 2**30
    found.line("disk", f"{free:.1f} GiB free for {store}", free > 1)
    _data(found)
    console.print(found.table)
    console.print(packs_table(here))
    return found.good


def _machine(found: _Findings, here: Mapping[str, Any]) -> None:
    found.line("cores", str(here["cores"]))
    found.line("processor", " ".join(here[name] for name in ("cpu", "cpu_model") if name in here))
    found.line("instruction sets", here.get("instruction_sets", "not told by the system"))
    found.line("kernels", f"{here['kernels']}, ATen {here['aten']}")
    found.line("libraries", f"oneDNN {here['onednn']}, BLAS {here['blas']}, torch {here['torch']}")
    if "kernel_variables" in here:
        found.line("environment", here["kernel_variables"])
    found.line("machine", f"{machine_key(here)} (with --threads {here['threads']})")


def _data(found: _Findings) -> None:
    from bench.data.datasets import get_dataset
    from bench.zoo.targets import check_weights, target_names, zoo_names

    try:
        dataset = get_dataset("fashion_mnist")
        count = len(dataset.train().labels), len(dataset.test().labels)
        found.line("data", "fashion_mnist, {} training and {} test images".format(*count))
        names = {*target_names("fashion_mnist"), *zoo_names("fashion_mnist", "full")}
        for name in sorted(names):
            check_weights(name)
        found.line("weights", f"{len(names)} networks, digests as registered", len(names) > 0)
    except BenchError as error:
        found.line("data or weights", str(error), fine=False)


def packs_table(here: Mapping[str, Any], folder: Traversable | None = None) -> Table:
    """The packs by the machine that measured them: this one's kind, another, or not known.

    Args:
        here: facts of this machine (:func:`bench.runtime.facts`).
        folder: of packed records; the package's unless given.

    Raises:
        StoreError: a pack is damaged.
    """
    folder = measured_folder() if folder is None else folder
    packs: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for pack in pack_files(folder):
        for raw in read_pack(folder / pack.name):
            facts = raw.get("provenance") or {}
            group = (_ANSWERS[alike(here, facts)], machine_key(facts), str(facts.get("cpu", "")))
            packs[group][pack.name.partition(".")[0]] += 1
    table = Table("measured on", "machine", "processor", "packs (records)", title="packs of measured records")
    for (answer, key, cpu), counts in sorted(packs.items(), key=lambda item: [*_ANSWERS.values()].index(item[0][0])):
        table.add_row(answer, key, cpu, ", ".join(f"{name} ({count})" for name, count in counts.items()))
    if any(answer == _ANSWERS[None] for answer, _, _ in packs):
        table.caption = "not known: all that the records tell agrees, but they do not tell their instruction set"
    return table
