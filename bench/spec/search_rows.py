"""The policy axis as the plan crosses it: searches with their defaults, the images they look at, written policies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.errors import SuiteError
from bench.interfaces import Preset
from bench.spec.catalogue import Catalogue
from bench.spec.looks import SELF
from bench.spec.models import PolicyEntry
from bench.spec.origin import KeyPath
from bench.spec.policy_files import read_policy_file
from bench.spec.registry import changes, params_json, resolve_params, row_label
from bench.spec.resolved import ResolvedSearch
from bench.spec.rows import SourceRow, entry_at, rows_of
from bench.spec.suite import SuiteSpec


@dataclass(frozen=True)
class SearchRow:
    """A policy search, the images it looks at (None: those the compressor gets) and how many (None: as many)."""

    search: ResolvedSearch
    on: SourceRow | None = None
    images: int | None = None


def search_rows(
    suite: SuiteSpec, preset: Preset, targets: tuple[str, ...], catalogue: Catalogue
) -> tuple[SearchRow, ...]:
    """The policy axis; empty where the settings alone say the bits.

    Raises:
        SuiteError: unknown search, parameter or source; a file that holds no policy; two equal rows.
    """
    out: list[SearchRow] = []
    for index, entry in enumerate(suite.grid.policy):
        at = entry_at(suite, "policy", index, entry.method)
        name, given = entry.method, dict(entry.params)
        if entry.file is not None:
            name, given = _written(catalogue), {"layers": _layers(suite, entry.file, at(()))}
        method = catalogue.policies.get(name, where=at(()))
        params = resolve_params(method, preset, given, name=entry.method, at=at)
        on = _looks_at(entry, index, suite, preset, targets, catalogue)
        label = entry.label or row_label(name, changes(name, method, preset, params))
        if on is not None and not entry.label:
            label = f"{label} on {on.source.label}{f'[{on.model}]' if on.model else ''}"
        if any(old.search.label == label for old in out):
            raise SuiteError("two rows of one name", where=at(()), got=label)
        known = catalogue.policies
        origin = (known.own(name), known.code(name), known.brought(name))
        search = ResolvedSearch(name, label, method.version, params, params_json(params), *origin)
        out.append(SearchRow(search, on, entry.images))
    return tuple(out)


def _written(catalogue: Catalogue) -> str:
    """The method whose policies are written in files."""
    known = catalogue.policies
    return next(name for name in known.names() if known.get(name).written)


def _layers(suite: SuiteSpec, given: str, where: str) -> dict[str, list[int]]:
    """The policy in a file that the suite names, from the working folder or from the suite's own."""
    path = Path(given)
    beside = Path(suite.at().partition(":")[0]).parent / given
    return read_policy_file(path if path.exists() or not beside.exists() else beside, where).to_json()


def _looks_at(
    entry: PolicyEntry, index: int, suite: SuiteSpec, preset: Preset, targets: tuple[str, ...], catalogue: Catalogue
) -> SourceRow | None:
    """The source a search looks at, where that is not the cell's own."""
    if entry.on is None:
        return None
    own = entry.on

    def at(path: KeyPath) -> str:
        return suite.at("grid", "policy", index, entry.method, "on", *((own.method, *path) if path else ()))

    if own.delivery == "stream":
        raise SuiteError(
            "a policy search needs stored images", where=at(("delivery",)), got="stream", expected="cached"
        )
    rows = rows_of(own, -1 - index, at, suite, preset, targets, catalogue)
    if len(rows) > 1:
        raise SuiteError("a search looks at one image set", where=at(("model",)), got=own.model, expected=SELF)
    return rows[0]
