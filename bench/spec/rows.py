"""The axes of a grid as the plan crosses them: methods with their defaults, networks by their full names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.errors import SuiteError
from bench.interfaces import Preset
from bench.spec.axes import takes_policy
from bench.spec.catalogue import Catalogue, find_network, short_name
from bench.spec.domains import from_domain
from bench.spec.filters import check_filter, over
from bench.spec.looks import models_of, zoo_of
from bench.spec.models import CompressorEntry, SourceEntry
from bench.spec.origin import KeyPath
from bench.spec.registry import changes, params_json, resolve_params, row_label
from bench.spec.resolved import ResolvedCompressor, ResolvedSource
from bench.spec.select import is_pattern, matches
from bench.spec.suite import SuiteSpec
from bench.spec.teachers import taught


@dataclass(frozen=True)
class SourceRow:
    """A source with the networks it looks at. ``models`` is None where that is the cell's own target.

    ``model`` is the row's model column ("" for a source without models), ``index`` the entry of the suite; ``beside``
    are the networks of a zoo that the source looks at besides the one.
    """

    source: ResolvedSource
    model: str | None
    models: tuple[str, ...] | None
    zoo: bool
    needs: frozenset[str]
    student: str | None
    index: int
    beside: tuple[str, ...] = ()


def target_rows(suite: SuiteSpec, catalogue: Catalogue) -> tuple[str, ...]:
    """Full names of the target axis; patterns are matched against the data set's targets.

    Raises:
        SuiteError: unknown network, a pattern without a match, a network named twice.
    """
    known = catalogue.targets(suite.dataset)
    shown = [short_name(suite.dataset, name) for name in known]
    out: list[str] = []
    for i, entry in enumerate(suite.grid.target):
        where = suite.at("grid", "target", i)
        if is_pattern(entry):
            found = [name for name, short in zip(known, shown, strict=True) if matches(short, entry)]
            if not found:
                raise SuiteError("the pattern matches no target", where=where, got=entry, expected=shown)
        else:
            found = [find_network(catalogue, suite.dataset, entry, where)]
        twice = next((name for name in found if name in out), None)
        if twice is not None:
            raise SuiteError("the target is given twice", where=where, got=short_name(suite.dataset, twice))
        out += found
    return tuple(out)


def source_rows(
    suite: SuiteSpec, preset: Preset, targets: tuple[str, ...], catalogue: Catalogue
) -> tuple[SourceRow, ...]:
    """The source axis, ``each_target`` expanded into one row per network.

    Raises:
        SuiteError: unknown method, parameter or network; an option the source has no use for; two equal rows.
    """
    out: list[SourceRow] = []
    for index, entry in enumerate(suite.grid.source):
        at = entry_at(suite, "source", index, entry.method)
        for row in rows_of(entry, index, at, suite, preset, targets, catalogue):
            if any((old.source.label, old.model) == (row.source.label, row.model) for old in out):
                label = row.source.label
                raise SuiteError(
                    "two rows of one name",
                    where=at(()),
                    got=label if not row.model else f"{label} from {row.model}",
                    hint="Drop one of them, or give it a `label`.",
                )
            out.append(row)
    return tuple(out)


def rows_of(
    entry: SourceEntry,
    index: int,
    at: Callable[[KeyPath], str],
    suite: SuiteSpec,
    preset: Preset,
    targets: tuple[str, ...],
    catalogue: Catalogue,
) -> list[SourceRow]:
    """The rows an entry makes: one, or one for each network with ``each_target``."""
    method = catalogue.sources.get(entry.method, where=at(()))
    params = resolve_params(method, preset, entry.params, name=entry.method, at=at)
    changed = changes(entry.method, method, preset, params)
    label = entry.label or row_label(entry.method, changed)
    beside: tuple[str, ...] = ()
    if method.models == "one+zoo" and entry.zoo:
        beside = zoo_of(entry.zoo, suite.dataset, catalogue, at(("zoo",)))
        label = entry.label or f"{label}+zoo:{'+'.join(entry.zoo)}"
    if entry.delivery == "stream":
        _check_stream(suite, method, entry.method, at(("delivery",)))
        label = entry.label or (f"{label[:-1]}, stream)" if label.endswith(")") else f"{label}(stream)")
    source = ResolvedSource(
        method=entry.method,
        label=label,
        version=method.version,
        params=params,
        params_json=params_json(params),
        access=method.access,
        control=method.control,
        label_kind=method.label_kind,
        batch_size=method.batch_size(params),
        delivery=entry.delivery,
        changes=changed,
        own=catalogue.sources.own(entry.method),
        code=catalogue.sources.code(entry.method),
        brought=catalogue.sources.brought(entry.method),
        hook="hook" in method.offers,
    )
    if entry.domain is not None:
        source = from_domain(source, entry.domain, suite.dataset, catalogue, at(("domain",)))
        source = replace(source, label=entry.label or source.label)
    check_filter(source, entry, catalogue, at)
    if entry.of is not None:
        under = rows_of(entry.of, index, below(at, entry.of), suite, preset, targets, catalogue)
        return [replace(row, source=over(source, row.source, entry.label)) for row in under]
    student = find_network(catalogue, suite.dataset, entry.student, at(("student",))) if entry.student else None
    zoo, needs = method.models == "zoo", frozenset(method.needs)
    return [
        SourceRow(source, model, models, zoo, needs, student, index, beside)
        for model, models in models_of(method.models, entry, suite, targets, catalogue, at)
    ]


def _check_stream(suite: SuiteSpec, method: Any, name: str, where: str) -> None:
    """Raise SuiteError for a source without a generator to train, and where nothing would be trained by it."""
    if "stream" not in method.offers:
        raise SuiteError(f"{name} makes no stream of images", where=where, got="stream", expected="cached")
    if suite.measures:
        raise SuiteError("a stream leaves no image set to measure", where=where, got="stream", expected="cached")


def compressor_rows(suite: SuiteSpec, preset: Preset, catalogue: Catalogue) -> tuple[ResolvedCompressor, ...]:
    """The compressor axis.

    Raises:
        SuiteError: unknown method or parameter; a quantiser that is not the last step; two equal rows; a teacher that
            does not exist or does not serve.
        WeightsError: the manifest of a teacher is missing or damaged.
    """
    out: list[ResolvedCompressor] = []
    for index, entry in enumerate(suite.grid.compressor):
        at = entry_at(suite, "compressor", index, "steps" if entry.steps else entry.method)
        if entry.steps:
            row = _chain(suite, entry, index, preset, catalogue)
        else:
            row = _compressor(entry.method, entry.params, preset, catalogue, at)
        if entry.teacher is not None:
            row = taught(row, entry.teacher, suite.dataset, catalogue, at(("teacher",)))
        row = replace(row, label=entry.label or row.label)
        if any(old.label == row.label for old in out):
            raise SuiteError("two rows of one name", where=at(()), got=row.label)
        out.append(row)
    return tuple(out)


def _compressor(
    name: str, given: Mapping[str, Any], preset: Preset, catalogue: Catalogue, at: Callable[[KeyPath], str]
) -> ResolvedCompressor:
    method = catalogue.compressors.get(name, where=at(()))
    params = resolve_params(method, preset, given, name=name, at=at)
    changed = changes(name, method, preset, params)
    return ResolvedCompressor(
        method=name,
        label=row_label(name, changed),
        version=method.version,
        params=params,
        params_json=params_json(params),
        accepts=method.accepts,
        deliveries=method.deliveries,
        changes=changed,
        own=catalogue.compressors.own(name),
        code=catalogue.compressors.code(name),
        brought=catalogue.compressors.brought(name),
    )


def _chain(
    suite: SuiteSpec, entry: CompressorEntry, index: int, preset: Preset, catalogue: Catalogue
) -> ResolvedCompressor:
    """Methods one after the other as one row."""
    steps: list[ResolvedCompressor] = []
    for number, step in enumerate(entry.steps):
        at = _step_at(suite, index, number, step.method)
        steps.append(_compressor(step.method, step.params, preset, catalogue, at))
        if number + 1 < len(entry.steps) and takes_policy(steps[-1].accepts):
            raise SuiteError(
                "only the last step may quantise", where=at(()), got=step.method, hint="Put it at the end of `steps`."
            )
        _check_zeros(steps, catalogue, at(()))
    described = [{"method": step.method, "version": step.version, "params": step.described} for step in steps]
    return ResolvedCompressor(
        method=entry.method,
        label="+".join(step.label for step in steps),
        version=sum(step.version for step in steps),
        params=None,
        params_json={"steps": described},
        accepts=frozenset().union(*(step.accepts for step in steps)),
        # A stream passes once: a second step would see other images.
        deliveries=frozenset({"cached"}),
        steps=tuple(steps),
        changes={f"{step.method}.{key}": value for step in steps for key, value in step.changes.items()},
        own=all(step.own for step in steps),
    )


def _check_zeros(steps: Sequence[ResolvedCompressor], catalogue: Catalogue, where: str) -> None:
    """Raise SuiteError when the last of ``steps`` would fill the zeros that one before it made."""
    *before, last = [catalogue.compressors.get(step.method) for step in steps]
    if any(method.makes_zeros for method in before) and not last.keeps_zeros:
        known = catalogue.compressors
        keep = [name for name in known.names() if known.get(name).keeps_zeros]
        raise SuiteError(
            "this step would fill the zeros that one before it made", where=where, got=steps[-1].method, expected=keep
        )


def _step_at(suite: SuiteSpec, index: int, number: int, name: str) -> Callable[[KeyPath], str]:
    """Places of a step's own keys."""

    def at(path: KeyPath) -> str:
        return suite.at("grid", "compressor", index, "steps", number, *((name, *path) if path else ()))

    return at


def below(at: Callable[[KeyPath], str], of: SourceEntry) -> Callable[[KeyPath], str]:
    """Places of the keys of the source that a filter changes, which lie in the filter's entry."""
    return lambda path: at(("of", *((of.method, *path) if path else ())))


def entry_at(suite: SuiteSpec, axis: str, index: int, name: str) -> Callable[[KeyPath], str]:
    """Places of an entry's own keys, which lie under the method's name in the file."""

    def at(path: KeyPath) -> str:
        return suite.at("grid", axis, index, *((name, *path) if path else ()))

    return at
