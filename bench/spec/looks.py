"""The networks that a source's row looks at."""

from __future__ import annotations

from collections.abc import Callable

from bench.errors import SuiteError, nearest
from bench.spec.catalogue import Catalogue, full_name, short_name
from bench.spec.models import SourceEntry
from bench.spec.origin import KeyPath
from bench.spec.suite import SuiteSpec
from bench.zoo.names import is_outside

SELF = "self"
EACH_TARGET = "each_target"
FULL_ZOO = ("full",)


def models_of(
    looks_at: str,
    entry: SourceEntry,
    suite: SuiteSpec,
    targets: tuple[str, ...],
    catalogue: Catalogue,
    at: Callable[[KeyPath], str],
) -> list[tuple[str | None, tuple[str, ...] | None]]:
    """(model column, networks) of each row an entry makes; (None, None) for the cell's own target."""
    if entry.model is not None and looks_at not in ("one", "one+zoo"):
        raise SuiteError(f"{entry.method} does not look at one network", where=at(("model",)), got=entry.model)
    if entry.zoo is not None and looks_at not in ("zoo", "one+zoo"):
        raise SuiteError(f"{entry.method} mixes no networks", where=at(("zoo",)), got=", ".join(entry.zoo))
    if looks_at == "none":
        return [("", ())]
    if looks_at == "zoo":
        zoo = entry.zoo or FULL_ZOO
        return [(f"zoo:{'+'.join(zoo)}", zoo_of(zoo, suite.dataset, catalogue, at(("zoo",))))]
    if entry.model in (None, SELF):
        return [(None, None)]
    if entry.model == EACH_TARGET:
        return [(short_name(suite.dataset, name), (name,)) for name in targets]
    full = _one_model(str(entry.model), suite.dataset, catalogue, at(("model",)))
    return [(short_name(suite.dataset, full), (full,))]


def _one_model(name: str, dataset: str, catalogue: Catalogue, where: str) -> str:
    """The full name of a network; the two words that stand for networks are among what is allowed."""
    known = [short_name(dataset, item) for item in catalogue.networks(dataset)]
    words = [SELF, EACH_TARGET, *known]
    if full_name(dataset, name) not in catalogue.networks(dataset) and not is_outside(name):
        raise SuiteError("unknown model", where=where, got=name, expected=words, nearest=nearest(name, words))
    return full_name(dataset, name)


def zoo_of(entries: tuple[str, ...], dataset: str, catalogue: Catalogue, where: str) -> tuple[str, ...]:
    """Full names of a zoo given by groups and single networks, each once, in the order given."""
    groups = catalogue.zoo_groups(dataset)
    known = catalogue.networks(dataset)
    out: list[str] = []
    for entry in entries:
        if entry in groups:
            out += catalogue.zoo(dataset, entry)
        elif full_name(dataset, entry) in known or is_outside(entry):
            out.append(full_name(dataset, entry))
        else:
            allowed = [*groups, *(short_name(dataset, name) for name in known)]
            raise SuiteError(
                "unknown zoo or network", where=where, got=entry, expected=allowed, nearest=nearest(entry, allowed)
            )
    if not out:
        hint = f"Train it: bench zoo train {dataset}"
        raise SuiteError("the zoo has no trained network", where=where, got=", ".join(entries), hint=hint)
    return tuple(dict.fromkeys(out))
