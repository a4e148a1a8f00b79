"""What compressors are asked for: the axes of the setting crossed per target, and what one compression delivers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping

from bench.errors import SuiteError, nearest
from bench.interfaces import Setting
from bench.spec.axes import AXES, Axis, label, only
from bench.spec.catalogue import Catalogue, find_network, short_name
from bench.spec.resolved import ResolvedCompressor
from bench.spec.select import matches
from bench.spec.suite import SuiteSpec


def settings_of(suite: SuiteSpec, targets: tuple[str, ...], catalogue: Catalogue) -> Mapping[str, tuple[Setting, ...]]:
    """Full target name → its settings: the axes of the setting crossed, on each axis the entries with a pattern that
    fits the target, or else the plain ones.

    Raises:
        SuiteError: a pattern that fits no target; a target left without a value; a network that is unknown or cannot be
            built for the images.
    """
    per_axis = [_per_target(suite, axis, targets, catalogue) for axis in AXES]
    out: dict[str, tuple[Setting, ...]] = {}
    for target in targets:
        crossed = itertools.product(*(offered[target] for offered in per_axis))
        out[target] = tuple(functools.reduce(Setting.joined, parts) for parts in crossed)
    return out


def _per_target(
    suite: SuiteSpec, axis: Axis, targets: tuple[str, ...], catalogue: Catalogue
) -> dict[str, tuple[Setting, ...]]:
    """Full target name → the settings one axis offers it; the plain one where the suite lacks the axis."""
    entries = suite.grid.entries(axis.name)
    if not entries:
        return dict.fromkeys(targets, (Setting(),))
    shown = {name: short_name(suite.dataset, name) for name in targets}
    # An override may have removed the target an entry was written for: then the data set's others count, too.
    known = [*shown.values(), *(short_name(suite.dataset, name) for name in catalogue.targets(suite.dataset))]
    made: list[tuple[Setting, str | None]] = []
    for i, entry in enumerate(entries):
        asked = entry.setting
        if entry.target is not None and not any(matches(name, entry.target) for name in known):
            raise SuiteError(
                "the pattern fits no target",
                where=suite.at("grid", axis.name, i, axis.label(asked), "target"),
                got=entry.target,
                expected=list(shown.values()),
                nearest=nearest(entry.target, shown.values()),
            )
        if axis.network is not None:
            where = suite.at("grid", axis.name, i)
            network = find_network(catalogue, suite.dataset, str(asked.get(axis.network)), where)
            catalogue.check_student(network, suite.dataset, where)
            asked = asked.joined(Setting.of({axis.network: network}))
        made.append((asked, entry.target))
    plain = tuple(asked for asked, pattern in made if pattern is None)
    out: dict[str, tuple[Setting, ...]] = {}
    for full, short in shown.items():
        own = tuple(dict.fromkeys(asked for asked, pattern in made if pattern is not None and matches(short, pattern)))
        if not own and not plain:
            raise SuiteError(f"no {axis.name} for this target", where=suite.at("grid", axis.name), got=short)
        out[full] = own or plain
    return out


def promised(row: ResolvedCompressor, asked: Setting, catalogue: Catalogue) -> tuple[Setting, ...]:
    """The settings that one compression for ``asked`` delivers: what the last step says, each once.

    Raises:
        SuiteError: it delivers nothing, or one setting twice.
    """
    last = row.chain[-1]
    for step in row.chain[:-1]:
        own = only(asked, step.accepts)
        if catalogue.compressors.get(step.method).variants(step.params, own) != (own,):
            raise SuiteError(f"{step.method} delivers other networks than the next step asks for", where=row.label)
    method = catalogue.compressors.get(last.method)
    found = tuple(asked.joined(own) for own in method.variants(last.params, only(asked, last.accepts)))
    if not found or len(set(found)) < len(found):
        got = ", ".join(map(label, found)) or "none"
        raise SuiteError(f"{last.method} delivers no set of networks", where=row.label, got=got)
    return found
