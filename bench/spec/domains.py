"""The data set that a source's unrelated images come from, where the suite names one: the row option ``domain``."""

from __future__ import annotations

from dataclasses import replace

from bench.data.table import shows
from bench.errors import DataError, SuiteError
from bench.spec.catalogue import Catalogue
from bench.spec.registry import row_label
from bench.spec.resolved import ResolvedSource

TIER = "T3"
"""Sources of this tier look at unrelated images and at nothing nearer to the data."""


def from_domain(row: ResolvedSource, name: str, dataset: str, catalogue: Catalogue, where: str) -> ResolvedSource:
    """The row with images of the data set ``name``.

    Its identity holds the digest of that data set's training images, not the folder they lie in.

    Args:
        dataset: the suite's.
        where: the place that named it.

    Raises:
        SuiteError: the source reads no unrelated images; no such data set, or the suite's own; its images are not here.
    """
    if row.access != TIER:
        able = [other for other in catalogue.sources.names() if catalogue.sources.get(other).access == TIER]
        raise SuiteError(
            f"{row.method} looks at no images of another domain",
            where=where,
            got=name,
            hint=f"Sources that do: {', '.join(able) or 'none is installed'}.",
        )
    try:
        if shows(name) == shows(dataset):
            raise SuiteError(f"images of {dataset} are no other domain to it", where=where, got=name)
        catalogue.dataset(name)
        digest = catalogue.domain_digest(name, dataset)
    except DataError as error:
        got = name if error.where is None else f"{name} ({error.where})"
        more = {"expected": error.expected, "nearest": error.nearest, "hint": error.hint}
        raise SuiteError(error.what, where=where, got=got, **more) from error
    shown = name.rstrip("/").rpartition("/")[2]
    changed = {**row.changes, "domain": shown}
    return replace(row, label=row_label(row.method, changed), changes=changed, domain=name, domain_digest=digest)
