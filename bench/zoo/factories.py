"""Networks that a function of the user's builds: ``my_pkg.my_module:build``, called without arguments.

The module is imported from the current folder or from what is installed.  It is the user's own code and runs as such.
Its source, and that of the modules that define the network's layers, is part of the network's identity: torch's,
torchvision's and timm's are not.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import SuiteError, WeightsError, nearest

if TYPE_CHECKING:
    from torch import nn

RAISED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What a user's code is expected to raise."""

_LIBRARIES = {"torch", "torchvision", "timm"}


def create(name: str) -> nn.Module:
    """The network that the function called ``name`` builds, random weights of a fixed seed.

    Raises:
        SuiteError: no such module or function; it fails, or builds something else than a network.
    """
    import torch
    from torch import nn

    with _here(), torch.random.fork_rng(devices=[]):
        build = _function(name)
        torch.manual_seed(0)
        try:
            module = build()
        except RAISED as error:
            said = f"{type(error).__name__}: {error}"
            hint = "It is called without arguments."
            raise SuiteError("the function fails", where=name, got=said, hint=hint) from error
    if not isinstance(module, nn.Module):
        got = type(module).__name__
        raise SuiteError("the function builds no network", where=name, got=got, expected="a torch.nn.Module")
    return module


def sources_of(name: str, module: nn.Module) -> dict[str, str]:
    """SHA-256 of the source of the function's module and of those that define the layers of ``module``, which it built;
    by module name."""
    names = {name.partition(":")[0], *(type(part).__module__ for part in module.modules())}
    return {each: found for each in sorted(names) if (found := _source(each)) is not None}


def digest_with(sources: Mapping[str, str], weights: str) -> str:
    """The network's identity: SHA-256 over its weights' digest and its sources' (independent of where they lie)."""
    text = "".join(f"{name}:{sources[name]};" for name in sorted(sources))
    return hashlib.sha256(f"{weights};{text}".encode()).hexdigest()


def check_sources(name: str, known: Mapping[str, str]) -> None:
    """Compare the sources with ``known``, those that the weights were registered with.

    Raises:
        SuiteError: the function is not there.
        WeightsError: one has changed since, or is gone.
    """
    with _here():
        _function(name)
        now = {each: _source(each, load=True) for each in known}
    changed = [each for each, found in now.items() if found != known[each]]
    if changed:
        raise WeightsError(
            "the network's code has changed since its weights were registered",
            where=name,
            got=", ".join(changed),
            hint=f"Register it again, as another network: bench zoo add {name} FILE --data DATASET",
        )


def _function(name: str) -> Callable[[], Any]:
    place, _, function = name.partition(":")
    try:
        module = importlib.import_module(place)
    except RAISED as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "") in (place, place.partition(".")[0])
        raise SuiteError(
            "there is no such module" if missing else "the module cannot be imported",
            where=name,
            got=place if missing else f"{type(error).__name__}: {error}",
            expected=f"a module in the current folder ({Path.cwd()}), or an installed one",
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        known = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise SuiteError(
            "the module has no such function",
            where=name,
            got=function,
            expected=known,
            nearest=nearest(function, known),
        )
    callee: Callable[[], Any] = found
    return callee


@contextlib.contextmanager
def _here() -> Iterator[None]:
    """Modules of the current folder can be imported within, as in a script that lies there."""
    importlib.invalidate_caches()
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _source(name: str, load: bool = False) -> str | None:
    """SHA-256 of the file of a module; None where it has none, or is a library's."""
    if name.partition(".")[0] in _LIBRARIES:
        return None
    if load:
        with contextlib.suppress(*RAISED):
            importlib.import_module(name)
    place = getattr(sys.modules.get(name), "__file__", None)
    if place is None:
        return None
    try:
        return hashlib.sha256(Path(place).read_bytes()).hexdigest()
    except OSError:
        return None
