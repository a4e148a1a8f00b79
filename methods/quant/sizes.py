"""Sizes in a traced network: numbers that depend on how many images there are, or on nothing, never on the images.

A node that gives sizes carries ``meta["size"]``, so that a piece of the network can do without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import floordiv, mul
from typing import Any

from torch import fx

_PLAIN = (int, float, bool, str, type(None))


@dataclass(frozen=True)
class Fixed:
    """The same for any number of images."""

    value: Any


@dataclass(frozen=True)
class PerImage:
    """This many times the number of images."""

    times: int


@dataclass(frozen=True)
class Several:
    """A tuple of sizes."""

    parts: tuple[Any, ...]


Size = Fixed | PerImage | Several


def size_of(two: Any, three: Any) -> Size | None:
    """What a node gives for two and for three images, as a size; None where it is none."""
    if isinstance(two, (tuple, list)) and isinstance(three, (tuple, list)) and len(two) == len(three):
        parts = tuple(size_of(a, b) for a, b in zip(two, three, strict=True))
        return None if None in parts else Several(parts)
    if two is None or type(two) is not type(three):
        return None
    if type(two) is int and two != three:
        return PerImage(two // 2) if two % 2 == 0 and two // 2 * 3 == three else None
    same = two == three if isinstance(two, _PLAIN) else repr(two) == repr(three)
    return Fixed(two) if same else None


def is_size(node: fx.Node) -> bool:
    """Whether the node gives a size."""
    return node.meta.get("size") is not None


def rebuild(graph: fx.Graph, size: Size, images: fx.Node, times: int) -> Any:
    """``size`` as an argument in ``graph``, from ``images``, a tensor whose first axis is ``times`` the number of
    images.

    Raises:
        ValueError: it is no multiple of that axis.
    """
    if isinstance(size, Fixed):
        return size.value
    if isinstance(size, Several):
        return tuple(rebuild(graph, part, images, times) for part in size.parts)
    length = graph.call_method("size", (images, 0))
    if size.times == times:
        return length
    if not times:
        raise ValueError("the first axis does not follow the number of images")
    return graph.call_function(floordiv, (graph.call_function(mul, (length, size.times)), times))
