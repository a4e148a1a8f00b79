"""Methods by name: a name is a public file's stem in methods/<kind>/, or an entry point of an installed package.

Nothing is imported until it is asked for, and no name is known here.  What is imported must declare what its kind's
Protocol names, so that nobody downstream has to ask whether an attribute is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import SuiteError, nearest
from bench.identity import canonical
from bench.interfaces import WORDS, Compressor, DataSource, Method, MethodParams, PolicySearch, Preset
from bench.reading import parse_json
from bench.spec.explain import explain
from bench.spec.origin import KeyPath, dotted

PACKAGE = "methods"
"""Where the built-in methods lie: the one place of the engine that names it."""

PROTOCOLS: Mapping[str, type] = {"sources": DataSource, "compressors": Compressor, "policies": PolicySearch}
"""What a method of each kind declares."""


class Registry:
    """The methods of one kind: ``sources``, ``compressors``.

    Args:
        kind: folder below ``package`` and suffix of the entry point group ``datafree_bench.<kind>``.
        package: where the built-in methods lie.
    """

    def __init__(self, kind: str, package: str = PACKAGE) -> None:
        self.kind = kind
        self._package = f"{package}.{kind}"
        self._loaded: dict[str, Any] = {}

    @property
    def singular(self) -> str:
        """``source`` of ``sources``, for messages."""
        return self.kind.removesuffix("s")

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
                f"unknown {self.singular}", where=where, got=name, expected=names, nearest=nearest(name, names)
            )
        if name not in self._loaded:
            self._loaded[name] = self._load(name, where)
        return self._loaded[name]

    def place(self, name: str) -> str:
        """The module (and attribute) behind a name, for ``bench ls``."""
        return self._places[name]

    def own(self, name: str) -> bool:
        """Whether the method is the product's, and not one that an installed package brought."""
        return self._places[name].startswith(f"{self._package}.")

    @cached_property
    def _places(self) -> dict[str, str]:
        """Name → ``module`` or ``module:attribute``."""
        places: dict[str, str] = {}
        for item in resources.files(self._package).iterdir():
            stem, dot, suffix = item.name.rpartition(".")
            if dot and suffix == "py" and not stem.startswith("_"):
                places[stem] = f"{self._package}.{stem}"
        for point in metadata.entry_points(group=f"datafree_bench.{self.kind}"):
            owner = f"{point.value} ({point.dist.name})" if point.dist else point.value
            if places.setdefault(point.name, point.value) != point.value:
                raise SuiteError(
                    f"two {self.kind} of one name",
                    got=f"{point.name}: {places[point.name]} and {owner}",
                    hint="Uninstall one of the two packages, or rename its entry point.",
                )
        return places

    def _load(self, name: str, where: str | None) -> Any:
        module_name, _, attribute = self._places[name].partition(":")
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


def undeclared(method: Any, protocol: type) -> tuple[str, ...]:
    """What ``protocol`` and its bases name and ``method`` lacks, sorted: attributes, methods, and the methods behind
    what it says it ``offers``."""
    bases = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    attributes = [name for base in bases for name in inspect.get_annotations(base)]
    methods = [name for base in bases for name, item in vars(base).items() if inspect.isfunction(item)]
    absent = object()
    lacking = {name for name in attributes if getattr(method, name, absent) is absent}
    wanted = {name for name in methods if not name.startswith("_")}
    if "offers" in attributes:
        wanted |= set(getattr(method, "offers", ())) - WORDS
    lacking |= {name for name in wanted if not callable(getattr(method, name, None))}
    return tuple(sorted(lacking))


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
