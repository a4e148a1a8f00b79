"""What was once found out about a library's networks, kept in the user's cache folder: no later plan imports a library.

Files are named by the versions of the library and of torch, which draws the random weights; a new version finds out
anew.  All of it can be had again: what is missing or damaged is made anew, and where nothing can be written nothing is.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.paths import cache_folder
from bench.reading import read_json
from bench.zoo.checkpoints import write_manifest

FACTS = {"network", "digest", "top1", "macs", "mean", "std", "batch_norms", "classes", "shape", "layers", "parameters"}
"""What the manifest of a network holds."""


def read_facts(library: str, name: str) -> dict[str, Any] | None:
    """The manifest of the library's network ``name`` (``timm:resnet18``) with random weights; None if never seen."""
    found = _read(_stem(library, name))
    return found if isinstance(found, dict) and found.keys() >= FACTS and found["network"] == name else None


def write_facts(library: str, name: str, facts: dict[str, Any]) -> None:
    """Keep what is known of a network."""
    _write(_stem(library, name), facts)


def read_names(library: str) -> frozenset[str]:
    """The names of all networks of the library; none if nobody asked for them yet."""
    found = _read(_stem(library, "names"))
    names = found.get("names") if isinstance(found, dict) else None
    return frozenset(names) if isinstance(names, list) else frozenset()


def write_names(library: str, names: Iterable[str]) -> None:
    """Keep the names of the library's networks."""
    _write(_stem(library, "names"), {"names": sorted(names)})


def _folder() -> Path:
    return cache_folder() / "networks"


def _stem(library: str, name: str) -> str:
    safe = name.replace(":", "_").replace("/", "_")
    return f"{safe}.{library}-{metadata.version(library)}.torch-{metadata.version('torch')}"


def _read(stem: str) -> Any:
    try:
        return read_json(_folder() / f"{stem}.json")
    except (OSError, ValueError):
        return None


def _write(stem: str, content: dict[str, Any]) -> None:
    with suppress(OSError):
        _folder().mkdir(parents=True, exist_ok=True)
        write_manifest(_folder(), stem, content)
