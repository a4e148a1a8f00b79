"""Versions of the methods and weights at hand, to tell stale records; remembered, because asking a method imports
torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from bench.notes import read_note, write_note
from bench.paths import cache_folder
from bench.spec.catalogue import shipped_weights
from bench.spec.plugins import Plugin
from bench.spec.registry import Registry, code_files

KINDS = ("sources", "compressors", "policies")
NETWORKS = "networks"
"""Kind of what is no method: a network that comes with the package, whose version is the digest of its weights."""


FILES = "files"
"""Kind of what came as a file of the user's (``sources/NAME``), whose version is the digest of its content."""


def versions(plugins: Iterable[Plugin] = ()) -> dict[tuple[str, str], int | str]:
    """(kind, method) → version of the code at hand, (``NETWORKS``, full name) → digest of the weights at hand, and
    (``FILES``, kind/name) → digest of each of ``plugins``.

    Raises:
        WeightsError: a shipped network's manifest is damaged.
    """
    found: dict[tuple[str, str], int | str] = {}
    for kind in KINDS:
        registry = Registry(kind)
        found |= {(kind, name): int(registry.get(name).version) for name in registry.names()}
    found |= {(FILES, f"{plugin.kind}/{plugin.name}"): plugin.digest for plugin in plugins}
    return found | {(NETWORKS, name): digest for name, digest in shipped_weights().items()}


def noted_versions(
    plugins: Iterable[Plugin] = (), note: Path | None = None, stamp: str | None = None
) -> dict[tuple[str, str], int | str]:
    """As :func:`versions`, asked again only when :func:`code_stamp` has changed since it was noted.

    Args:
        note: the file of the note; one in the user's cache folder unless given.
        stamp: what :func:`code_stamp` says, where that is known.
    """
    path, kind = note or cache_folder() / "versions.json", f"versions of {stamp or code_stamp()}"
    noted = read_note(path, kind)
    if noted is None:
        noted = [[*key, version] for key, version in versions().items()]
        write_note(path, kind, noted)
    files = {(FILES, f"{plugin.kind}/{plugin.name}"): plugin.digest for plugin in plugins}
    return {(str(kind), str(name)): version for kind, name, version in noted} | files


def code_stamp() -> str:
    """What :func:`versions` was read from: the methods' files by path, size and time, the weights by their digests;
    imports no method."""
    names = sorted(name for kind in KINDS for name in Registry(kind).names())
    weights = [f"{name} {digest}" for name, digest in shipped_weights().items()]
    files = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in code_files()]
    text = "\n".join([*names, *weights, *files])
    return hashlib.sha256(text.encode()).hexdigest()


def board_stamp() -> str:
    """What the board's tables are formed by: the sources of ``bench.board`` and of the records' format."""
    folder = Path(__file__).parents[1]
    engine = folder.parent
    stored = ("bitmaps", "image_bits", "image_gate", "migrations", "records", "verifications")
    formed_by = ("identity.py", "machine.py", "spec/axes.py", *(f"store/{name}.py" for name in stored))
    files = [*sorted(folder.rglob("*.py")), *(engine / name for name in formed_by)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
