"""Methods by name: a name is a public file's stem in methods/<kind>/, an entry point of an installed package, or the
stem of a file the user gives (:mod:`bench.spec.plugins`).

Nothing is imported until it is asked for, and no name is known here.  What is imported must declare what its kind's
Protocol names, so that nobody downstream has to ask whether an attribute is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import SuiteError, nearest
from bench.identity import canonical
from bench.interfaces import Method, MethodParams, Preset
from bench.reading import parse_json
from bench.spec.explain import explain
from bench.spec.origin import KeyPath, dotted
from bench.spec.plugins import PROTOCOLS, SINGULAR, Plugin, undeclared

PACKAGE = "methods"
"""Where the built-in methods lie: the one place of the engine that names it."""

GROUPS = ("bench.{}", "datafree_bench.{}")
"""Groups of entry points by kind; the second is the older name of the first."""


@dataclass(frozen=True)
class Place:
    """Where a method comes from: ``at`` is its module (and attribute) or its file, ``brought`` says who brought it and
    is empty where it is the product's own; ``plugin`` is its file's content where the user gave one."""

    at: str
    brought: str = ""
    plugin: Plugin | None = None


class Registry:
    """The methods of one kind: ``sources``, ``compressors``.

    Args:
        kind: folder below ``package`` and suffix of the entry point groups (:data:`GROUPS`).
        package: where the built-in methods lie.
        plugins: methods in files; those of other kinds are passed over.
    """

    def __init__(self, kind: str, package: str = PACKAGE, plugins: Sequence[Plugin] = ()) -> None:
        self.kind = kind
        self._package = f"{package}.{kind}"
        self._plugins = tuple(plugin for plugin in plugins if plugin.kind == kind)
        self._loaded: dict[str, Any] = {}

    @property
    def singular(self) -> str:
        """``source`` of ``sources``, for messages."""
        return SINGULAR.get(self.kind, self.kind)

    def names(self) -> tuple[str, ...]:
        """All names, sorted.

        Raises:
            SuiteError: two places claim one name.
        """
        return tuple(sorted(self._places))

    def get(self, name: str, where: str | None = None) -> Any:
        """The method's instance, imported now if it was not yet.

        Args:
            where: the place that named it, for the error.

        Raises:
            SuiteError: unknown name; a module without ``METHOD``, or one that cannot be imported; a method that does
                not declare all that its kind's Protocol names.
        """
        if name not in self._places:
            names = self.names()
            raise SuiteError(
                f"unknown {self.singular}",
                where=where,
                got=name,
                expected=names,
                nearest=nearest(name, names),
                hint="One in a file of yours: --plugin FILE (bench run, plan, check, ls, board).",
            )
        if name not in self._loaded:
            self._loaded[name] = self._load(name, where)
        return self._loaded[name]

    def place(self, name: str) -> str:
        """The module (and attribute) or the file behind a name."""
        return self._places[name].at

    def brought(self, name: str) -> str:
        """Who brought the method: ``file NAME.py``, ``package NAME VERSION``; empty where it is the product's own."""
        return self._places[name].brought

    def own(self, name: str) -> bool:
        """Whether the method is the product's, and not one that an installed package or a file brought."""
        return not self._places[name].brought

    def code(self, name: str) -> str | None:
        """SHA-256 of the method's source where it came as a file: changed, it is another method under the same name."""
        plugin = self._places[name].plugin
        return plugin.digest if plugin else None

    def text(self, stem: str) -> str:
        """The source text of one of the product's own methods, or of a part they share (``_base``)."""
        spec = importlib.util.find_spec(f"{self._package}.{stem}")
        if spec is None or spec.origin is None:
            raise SuiteError(f"the {self.singular} has no source text", got=stem)
        return Path(spec.origin).read_text(encoding="utf-8")

    @cached_property
    def _places(self) -> dict[str, Place]:
        places: dict[str, Place] = {}
        for item in resources.files(self._package).iterdir():
            stem, dot, suffix = item.name.rpartition(".")
            if dot and suffix == "py" and not stem.startswith("_"):
                places[stem] = Place(f"{self._package}.{stem}")
        for group in GROUPS:
            for point in metadata.entry_points(group=group.format(self.kind)):
                owner = f"{point.value} ({point.dist.name})" if point.dist else point.value
                # a value inside the product's own folder is its own code under another name
                own = point.value.startswith(f"{self._package}.")
                package = f"package {point.dist.name} {point.dist.version}" if point.dist else f"package {point.value}"
                place = Place(point.value, "" if own else package)
                if places.setdefault(point.name, place).at != point.value:
                    raise SuiteError(
                        f"two {self.kind} of one name",
                        got=f"{point.name}: {places[point.name].at} and {owner}",
                        hint="Uninstall one of the two packages, or rename its entry point.",
                    )
        for plugin in self._plugins:
            place = Place(plugin.file, f"file {Path(plugin.file).name}", plugin)
            if places.setdefault(plugin.name, place) != place:
                raise SuiteError(
                    f"two {self.kind} of one name",
                    where="--plugin",
                    got=f"{plugin.name}: {places[plugin.name].at} and {plugin.file}",
                    hint="A file's name is its method's name: rename the file.",
                )
        return places

    def _load(self, name: str, where: str | None) -> Any:
        place = self._places[name]
        if place.plugin is not None:
            return place.plugin.method  # it declared all when its kind was told
        module_name, _, attribute = place.at.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise SuiteError(f"the {self.singular} cannot be imported", where=where, got=f"{name}: {error}") from error
        method = getattr(module, attribute or "METHOD", None)
        if method is None:
            raise SuiteError(
                f"the {self.singular} exposes no method", where=where, got=module_name, expected=attribute or "METHOD"
            )
        missing = undeclared(method, PROTOCOLS[self.kind])
        if missing:
            raise SuiteError(
                f"the {self.singular} does not declare all it must",
                where=where,
                got=f"{name} ({module_name}) without {', '.join(missing)}",
                hint=f"See bench.interfaces.{PROTOCOLS[self.kind].__name__}.",
            )
        return method


def resolve_params(
    method: Method,
    preset: Preset,
    given: Mapping[str, Any],
    *,
    name: str = "the method",
    at: Callable[[KeyPath], str] = dotted,
) -> MethodParams:
    """The method's parameters: defaults of ``Params``, overlaid by the preset, overlaid by ``given``.

    Types are strict: ``"3"`` is no number.

    Raises:
        SuiteError: a preset the method lacks; an unknown key (with the nearest), a wrong type, a value out of range.
    """
    if preset not in method.presets:
        raise SuiteError(f"{name} has no such preset", where=at(()), got=preset, expected=method.presets)
    try:
        text = json.dumps({**_plain(method.presets[preset]), **given}, allow_nan=False)
    except ValueError as error:
        raise SuiteError("the value is no finite number", where=at(()), got=dict(given)) from error
    try:
        return method.Params.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise explain(error, method.Params, at, name) from error


def params_json(params: MethodParams) -> dict[str, Any]:
    """Parameters as plain JSON: what is hashed and recorded."""
    out: dict[str, Any] = parse_json(canonical(params.model_dump(mode="json")))
    return out


def changes(name: str, method: Method, preset: Preset, params: MethodParams) -> dict[str, Any]:
    """The parameters that differ from the preset, in their order."""
    plain = resolve_params(method, preset, {}, name=name)
    mine, base = params.model_dump(mode="json"), plain.model_dump(mode="json")
    return {key: value for key, value in mine.items() if value != base[key]}


def row_label(name: str, changed: Mapping[str, Any]) -> str:
    """``mixmix(mix=1, data_mixing=false)``: the name and :func:`changes`."""
    shown = [f"{key}={_shown(value)}" for key, value in changed.items()]
    return f"{name}({', '.join(shown)})" if shown else name


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple | set | frozenset) else value for key, value in values.items()}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(", ", ":"), ensure_ascii=False)


def code_files(package: str = PACKAGE) -> list[Path]:
    """The source files of the built-in methods and of what they share, sorted; imports nothing."""
    return sorted(file for folder in code_folders(package) for file in folder.rglob("*.py"))


def code_folders(package: str = PACKAGE) -> list[Path]:
    """Where the built-in methods lie; imports nothing."""
    spec = importlib.util.find_spec(package)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
