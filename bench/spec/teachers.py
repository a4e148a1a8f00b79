"""The network that teaches a compressor's training in the target's place: the row option ``teacher``."""

from __future__ import annotations

from dataclasses import replace

from bench.errors import SuiteError
from bench.interfaces import NetworkInfo
from bench.spec.catalogue import Catalogue, find_network, short_name
from bench.spec.fits import check_fit
from bench.spec.registry import row_label
from bench.spec.resolved import ResolvedCompressor


def taught(row: ResolvedCompressor, name: str, dataset: str, catalogue: Catalogue, where: str) -> ResolvedCompressor:
    """The row with the network ``name`` (short or full) as its teacher.

    Args:
        where: the place that named it.

    Raises:
        SuiteError: the compressor learns from no other network than its target; no such network; one of other images
            or classes; one that nobody is known to have trained.
        WeightsError: its manifest is missing or damaged.
    """
    info = _find(row.method, name, dataset, catalogue, where)
    changed = {**row.changes, "teacher": short_name(dataset, info.name)}
    label = row_label(row.method, changed)
    return replace(row, label=label, changes=changed, teacher=info.name, teacher_digest=info.digest)


def _find(compressor: str, name: str, dataset: str, catalogue: Catalogue, where: str) -> NetworkInfo:
    known = catalogue.compressors
    if "teacher" not in known.get(compressor).offers:
        able = [other for other in known.names() if "teacher" in known.get(other).offers]
        raise SuiteError(
            f"{compressor} takes no teacher",
            where=where,
            got=name,
            hint=f"Compressors that take one: {', '.join(able) or 'none is installed'}.",
        )
    info = catalogue.info(find_network(catalogue, dataset, name, where))
    check_fit(info, catalogue.dataset(dataset), where)
    if info.fp_top1 is None:
        raise SuiteError(
            "nobody knows whether this network was trained: no accuracy is registered for it",
            where=where,
            got=info.name,
            expected="a trained network",
            hint=f"For weights of your own: bench zoo add {info.name} FILE --data FOLDER.",
        )
    return info
