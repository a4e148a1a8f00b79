"""What was once found out about a library's networks, kept in the user's cache folder: no later plan imports a library.

Files are named by the versions of the library and of torch, which draws the random weights; a new version finds out
anew.  All of it can be had again: what is missing or damaged is made anew, and where nothing can be written nothing is.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.notes import read_note, write_note
from bench.paths import cache_folder

KIND = "network 2"
FACTS = {"network", "digest", "top1", "macs", "mean", "std", "batch_norms", "classes", "shape", "layers", "parameters"}
"""What the manifest of a network holds."""


def read_facts(library: str, name: str) -> dict[str, Any] | None:
    """The manifest of the library's network ``name`` (``timm:resnet18``) with random weights; None if never seen."""
    found = read_note(_path(library, name), KIND)
    return found if isinstance(found, dict) and found.keys() >= FACTS and found["network"] == name else None


def write_facts(library: str, name: str, facts: dict[str, Any]) -> None:
    """Keep what is known of a network."""
    write_note(_path(library, name), KIND, facts)


def read_names(library: str) -> frozenset[str]:
    """The names of all networks of the library; none if nobody asked for them yet."""
    found = read_note(_path(library, "names"), KIND)
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()


def write_names(library: str, names: Iterable[str]) -> None:
    """Keep the names of the library's networks."""
    write_note(_path(library, "names"), KIND, sorted(names))


def read_student(library: str, name: str, classes: int, shape: tuple[int, int, int]) -> bool:
    """Whether the network was once built for so many classes and run on an image of ``shape`` (C, H, W)."""
    return read_note(_path(library, _student(name, classes, shape)), KIND) is True


def write_student(library: str, name: str, classes: int, shape: tuple[int, int, int]) -> None:
    """Keep that it was."""
    write_note(_path(library, _student(name, classes, shape)), KIND, True)


def _student(name: str, classes: int, shape: tuple[int, int, int]) -> str:
    return f"{name}.{classes}.{'x'.join(map(str, shape))}"


def _path(library: str, name: str) -> Path:
    safe = name.replace(":", "_").replace("/", "_")
    versions = f"{library}-{metadata.version(library)}.torch-{metadata.version('torch')}"
    return cache_folder() / "networks" / f"{safe}.{versions}.json"
