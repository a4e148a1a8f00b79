"""Names of networks that come from outside the package: a library's, or a function of the user's. No torch."""

from __future__ import annotations

import re

LIBRARIES = ("timm", "torchvision")

OUTSIDE_FORMS = ("timm:NAME", "torchvision:NAME", "MODULE:FUNCTION")
"""How such a name is written."""

_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def library_of(name: str) -> str | None:
    """ "timm" or "torchvision" when ``name`` is one of theirs."""
    prefix = name.split(":", 1)[0]
    return prefix if ":" in name and prefix in LIBRARIES else None


def is_factory(name: str) -> bool:
    """Whether ``name`` is a function of the user's that builds a network: ``my_pkg.my_module:build``."""
    return library_of(name) is None and _FACTORY.fullmatch(name) is not None


def is_outside(name: str) -> bool:
    """Whether ``name`` is a library's network or a factory's: it belongs to no data set of ours."""
    return library_of(name) is not None or is_factory(name)


def architecture_of(name: str) -> str:
    """The architecture in letters and digits: a library's without its width (suffixes _100, _1_0, _x1_0, 1_0) and
    weight tag; a factory's is its whole name."""
    if is_factory(name):
        return _letters(name.lower())
    return _letters(re.sub(r"_(\d+|[\dx]+_\d+)$|(?<=[a-z])\d_\d$", "", name.split(":", 1)[1].split(".")[0]))


def family_of(name: str) -> str:
    """The library's name; "factory" for the user's own."""
    return library_of(name) or "factory"


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text)
