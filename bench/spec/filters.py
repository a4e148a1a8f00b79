"""A source that changes the images of another one: the row option ``of``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bench.errors import SuiteError
from bench.spec.catalogue import Catalogue
from bench.spec.models import SourceEntry
from bench.spec.origin import KeyPath
from bench.spec.registry import row_label
from bench.spec.resolved import ResolvedSource

OPTIONS = ("model", "zoo", "student", "domain")
"""What an entry says of the networks and images that a source looks at, which is said of the other source here."""


def check_filter(row: ResolvedSource, entry: SourceEntry, catalogue: Catalogue, at: Callable[[KeyPath], str]) -> None:
    """Compare the row's method with what the entry says it changes.

    Raises:
        SuiteError: a filter of nothing; a source that changes no other's images; a filter that a file or a package
            brought, whose process would see the other's images only; an option of the other source; a stream.
    """
    able = [name for name in catalogue.sources.names() if "filter" in catalogue.sources.get(name).offers]
    if row.method not in able:
        if entry.of is None:
            return
        hint = f"Sources that do: {', '.join(able) or 'none is installed'}."
        what = f"{row.method} changes no other source's images"
        raise SuiteError(what, where=at(("of",)), got=entry.of.method, hint=hint)
    if entry.of is None:
        hint = f"{{{row.method}: {{of: NAME}}}}, or {{of: {{NAME: {{PARAMETER: value}}}}}} with parameters."
        raise SuiteError(f"{row.method} changes another source's images: name it", where=at(()), hint=hint)
    if not row.own:
        raise SuiteError("only the product's own sources change another's images", where=at(()), got=row.method)
    for option in OPTIONS:
        if getattr(entry, option) is not None:
            what = f"{row.method} looks at the images of {entry.of.method} alone"
            raise SuiteError(what, where=at((option,)), got=option, hint=f"Say it of {entry.of.method}.")
    if entry.of.delivery != "cached":
        raise SuiteError("a stream leaves no images to change", where=at(("of",)), got="stream", expected="cached")


def over(row: ResolvedSource, under: ResolvedSource, label: str | None) -> ResolvedSource:
    """The filter's ``row`` on the images of ``under``, whose tier, labels and batches it has; no control.

    Args:
        label: the row's name; without one, the method and what it changes, the other's parameters under its name.
    """
    bare = under.label.partition("(")[0]
    inside = {f"{bare}.{key}": value for key, value in under.changes.items()} if "(" in under.label else {}
    changed = {"of": bare, **inside, **row.changes}
    return replace(
        row,
        label=label or row_label(row.method, changed),
        changes=changed,
        access=under.access,
        control="none",
        label_kind=under.label_kind,
        batch_size=under.batch_size,
        of=under,
    )
