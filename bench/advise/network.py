"""The network that advice is asked for: by its name in the zoo, or one from outside."""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.table import spec_of
from bench.errors import BenchError, DataError, nearest
from bench.interfaces import NetworkInfo
from bench.spec.catalogue import Catalogue, full_name, short_name
from bench.zoo.brought import brought
from bench.zoo.names import OUTSIDE_FORMS, is_outside

EMBEDDED = "fashion_mnist"
"""Data set of a bare name."""


@dataclass(frozen=True)
class Network:
    """``name`` is full, ``shown`` what a suite calls it; ``owner`` is the data set it was trained on as far as that is
    known, else empty; ``shape`` (C, H, W) and ``classes`` are those of its images and answers.  ``random``: nobody
    brought weights for it."""

    name: str
    shown: str
    owner: str
    info: NetworkInfo
    shape: tuple[int, int, int]
    classes: int
    random: bool = False

    @property
    def slug(self) -> str:
        """The name as a part of a suite's name."""
        letters = "".join(c if c.isalnum() and c.isascii() else "_" for c in self.shown.lower())
        return "_".join(filter(None, letters.split("_")))[:50]


def find(name: str, dataset: str | None, catalogue: Catalogue) -> Network:
    """The network called ``name``: of the zoo (``resnet18_w10``, ``fashion_mnist/resnet18_w10``) or from outside.

    Raises:
        BenchError: there is none, with the command that registers one; images of clips.
    """
    owner = dataset or ("" if is_outside(name) else _owner(name))
    full = name if is_outside(name) else full_name(owner, name)
    if not is_outside(name) and full not in catalogue.networks(owner):
        known = [short_name(owner, one) for one in catalogue.networks(owner)]
        raise BenchError(
            "no such network",
            where="NETWORK",
            got=name,
            expected=[*known, *OUTSIDE_FORMS],
            nearest=nearest(name, known),
            hint="Register one of yours first: bench zoo add timm:NAME FILE, or bench zoo add MODULE:FUNCTION FILE.",
        )
    info = catalogue.info(full)
    owner = owner or _registered(name)
    spec = spec_of(owner) if owner else None
    shape, classes = info.shape or (spec and spec.shape), info.classes or (spec and spec.classes)
    if not shape or not classes:
        hint = f"Register it with what it was trained on: bench zoo add {name} FILE --data NAME|FOLDER"
        raise BenchError("the size of the network's images is not known", where=name, hint=hint)
    if spec is not None and spec.frames > 1:
        raise BenchError("advice is for networks of images", where=name, got=f"clips of {spec.frames} frames")
    random = is_outside(name) and brought(name) is None
    return Network(full, short_name(owner or EMBEDDED, full), owner, info, shape, classes, random)


def _owner(name: str) -> str:
    """The data set in a full name, else the embedded one."""
    return name.rpartition("/")[0] or EMBEDDED


def _registered(name: str) -> str:
    """The first data set that brought weights have an accuracy on and that is known here; empty where there is none."""
    for key in (brought(name) or {}).get("registered") or {}:
        try:
            spec_of(key)
        except DataError:
            continue
        return str(key)
    return ""
