"""Whether what evaluates is still what was shipped: the engine's code, what it takes from torch, the shared networks.

Code is held by identity and not by a digest: what cannot be told from what was loaded, nobody has replaced.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as hooks_of_all

from bench.errors import BenchError
from bench.zoo.checkpoints import digest_of

ENGINE = "bench"
LIBRARIES: tuple[Any, ...] = (builtins, torch, torch.nn.functional, torch.Tensor, nn.Module, np)
"""What evaluation calls besides.  torch's own Python functions are left out: its compiler wraps some when it loads."""

_ABSENT = object()


class Changed(BenchError):
    """Something that a measurement rests on is not what it was when the process began."""


@dataclass(frozen=True)
class _Function:
    """A function with all that decides what it does."""

    function: FunctionType
    code: CodeType
    defaults: Any
    keywords: Any
    inner: tuple[Any, ...]

    @staticmethod
    def of(function: FunctionType) -> _Function:
        keywords = dict(function.__kwdefaults__ or {})
        return _Function(function, function.__code__, function.__defaults__, keywords, _inner(function))

    @property
    def same(self) -> bool:
        now = self.function
        if now.__code__ is not self.code or now.__defaults__ is not self.defaults:
            return False
        if now.__kwdefaults__ and now.__kwdefaults__ != self.keywords:
            return False
        return not now.__closure__ or [*map(id, _inner(now))] == [*map(id, self.inner)]


@dataclass(frozen=True)
class _Name:
    """A name of a module or class and what it is bound to."""

    owner: Any
    name: str
    value: Any
    functions: tuple[_Function, ...]

    @property
    def same(self) -> bool:
        return vars(self.owner).get(self.name, _ABSENT) is self.value and all(one.same for one in self.functions)

    def __str__(self) -> str:
        return f"{_called(self.owner)}.{self.name}"


@dataclass(frozen=True)
class _Owner:
    """A module or class: its names, and those it must not take on, since it gets them from elsewhere."""

    owner: Any
    names: tuple[_Name, ...]
    inherited: frozenset[str]

    @staticmethod
    def of(owner: Any) -> _Owner:
        places = (builtins,) if isinstance(owner, ModuleType) else owner.__mro__[1:]
        elsewhere = {name for place in places for name, value in vars(place).items() if inspect.isroutine(value)}
        return _Owner(owner, tuple(_names(owner)), frozenset(elsewhere - vars(owner).keys()))

    def changes(self) -> Iterator[str]:
        yield from (str(one) for one in self.names if not one.same)
        yield from (f"{_called(self.owner)}.{name}" for name in sorted(self.inherited & vars(self.owner).keys()))


class Integrity:
    """What evaluation rests on, as it is now.

    Args:
        before: take the code over from there, not from now; networks are not.
    """

    def __init__(self, before: Integrity | None = None) -> None:
        from bench.run import perform  # noqa: F401 - with it, all that evaluates is loaded

        self._owners: dict[int, _Owner] = dict(before._owners) if before else {}
        self._hooks: dict[str, int] = before._hooks if before else _global_hooks()
        self._networks: dict[str, tuple[nn.Module, str]] = {}
        if before is None:
            for owner in (*_engine(), *LIBRARIES):
                self._hold(owner)

    def watch(self, name: str, network: nn.Module) -> None:
        """From now on ``network``, too, must stay as it is, and so must the code of its layers."""
        for owner in {base for part in network.modules() for base in type(part).__mro__ if base is not object}:
            self._hold(owner)
        self._networks[name] = (network, fingerprint(network))

    def changes(self) -> tuple[str, ...]:
        """What is not what it was: names of code, of networks; none when all is well."""
        found = [change for owner in self._owners.values() for change in owner.changes()]
        if _global_hooks() != self._hooks:
            found.append("hooks on all modules")
        found += [name for name, (network, before) in self._networks.items() if fingerprint(network) != before]
        return tuple(found)

    def check(self) -> None:
        """Raise Changed where something is not what it was."""
        found = self.changes()
        if found:
            raise Changed(
                "what measures was changed while the process ran",
                got=", ".join(found[:5]),
                hint="A method must change nothing but what it returns; no result of this process counts.",
            )

    def _hold(self, owner: Any) -> None:
        if id(owner) not in self._owners:
            self._owners[id(owner)] = _Owner.of(owner)


def fingerprint(network: nn.Module) -> str:
    """SHA-256 of a network's weights and of what else decides its answers: its layers' types, modes, hooks and whatever
    lies over their classes' attributes."""
    found = hashlib.sha256(digest_of(network.state_dict()).encode())
    for name, part in network.named_modules():
        own = vars(part)
        hooks = sorted((key, len(value)) for key, value in own.items() if key.endswith("_hooks") and value)
        over = sorted(key for key in own if hasattr(type(part), key))
        found.update(f"{name}:{type(part).__qualname__}:{part.training}:{hooks}:{over};".encode())
    return found.hexdigest()


def _engine() -> Iterator[Any]:
    """The engine's modules that are loaded, and their classes."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == ENGINE and isinstance(module, ModuleType):
            yield module
            yield from (v for v in list(vars(module).values()) if isinstance(v, type) and v.__module__ == name)


def _names(owner: Any) -> Iterator[_Name]:
    """What is to stay: functions, and in a module classes and whatever else can be called."""
    called = callable if isinstance(owner, ModuleType) else inspect.isroutine
    for name, value in list(vars(owner).items()):
        functions = tuple(map(_Function.of, _functions(value)))
        if isinstance(value, ModuleType) or (functions and owner is torch):
            continue
        if functions or called(value):
            yield _Name(owner, name, value, functions)


def _functions(value: Any) -> Iterator[FunctionType]:
    """The Python functions behind a function, a method's wrapper, a property."""
    if isinstance(value, staticmethod | classmethod):
        yield from _functions(value.__func__)
    elif isinstance(value, property):
        for part in (value.fget, value.fset, value.fdel):
            yield from _functions(part)
    elif isinstance(value, functools.cached_property):
        yield from _functions(value.func)
    elif isinstance(value, FunctionType):
        yield value
        yield from _functions(vars(value).get("__wrapped__"))
    elif isinstance(value, functools._lru_cache_wrapper):
        yield from _functions(value.__wrapped__)


def _inner(function: FunctionType) -> tuple[Any, ...]:
    """The functions that ``function`` closes over."""
    found: list[Any] = []
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if isinstance(content, FunctionType):
            found.append(content)
    return tuple(found)


def _global_hooks() -> dict[str, int]:
    hooks: Iterable[tuple[str, Any]] = vars(hooks_of_all).items()
    return {name: len(value) for name, value in hooks if name.startswith("_global_") and hasattr(value, "__len__")}


def _called(owner: Any) -> str:
    return owner.__name__ if isinstance(owner, ModuleType) else f"{owner.__module__}.{owner.__qualname__}"
