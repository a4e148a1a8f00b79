"""Ways to damage a file: seeded, the same in every run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 0.5, "", "x", "9" * 400, [], [[]], {}, {"": {}}, [1, "x", None]),
    *(2**31, 2**63, 10**400, -(10**400), 1e308, -1e308, "\x1b[31m", "\U0001f600", "\x00"),
)
"""Put in place of every value in turn."""

RAW = {
    "nan": "NaN",
    "infinity": "-Infinity",
    "overflow": "1e999",
    "digits": "9" * 5000,
    "surrogate": '"\\ud800"',
    "deep list": "[" * 3000 + "]" * 3000,
    "deep object": '{"a":' * 3000 + "1" + "}" * 3000,
    "a little too deep": "[" * 70 + "]" * 70,
    "unpaired": "[" * 100_000,
    "brackets in text": '["]",' * 3000 + "1" + "]" * 3000,
}
"""JSON text that Python's own values cannot say."""

_MARK = "\u241fhere\u241f"

Case = tuple[str, bytes]


def broken(content: bytes, seed: int, count: int = 6) -> Iterator[Case]:
    """Flipped, cut, emptied, lengthened, and what is no such file at all."""
    rng = random.Random(seed)
    for i in range(count):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 4, 40))):
            place = rng.randrange(len(changed)) if rng.random() < 0.5 else rng.randrange(min(len(changed), 400))
            changed[place] ^= 1 << rng.randrange(8)
        yield f"flip {i}", bytes(changed)
        yield f"cut {i}", content[: rng.randrange(len(content))]
    yield from {
        "empty": b"",
        "null bytes": b"\x00" * 64,
        "twice": content + content,
        "no text": b"\xff\xfe\x00",
        "a number": b"3",
        "text": b'"x"',
        "list": b"[]",
        "object": b"{}",
        "null": b"null",
    }.items()


def wrong(value: Any, seed: int, most: int) -> Iterator[tuple[str, Any]]:
    """``value`` with another value at one of its keys, at any depth: ``most`` of all such, chosen by the seed."""
    places = list(_places(value))
    cases = [(place, i) for place in places for i in range(len(VALUES))]
    random.Random(seed).shuffle(cases)
    for place, i in cases[:most]:
        yield f"{'.'.join(map(str, place))} = {VALUES[i]!r:.20}", _put(value, place, VALUES[i])


def missing(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """``value`` without one of its keys, and with one too many."""
    for name in value:
        yield f"no {name}", {key: item for key, item in value.items() if key != name}
    yield "a key too many", {**value, "another": 1}


def texts(value: Any, seed: int, dump: Callable[[Any], str] = json.dumps, most: int = 40) -> Iterator[Case]:
    """JSON text of ``value`` with one of :data:`RAW` at one of its keys."""
    rng = random.Random(seed)
    places = list(_places(value))
    for i in range(most):
        name, raw = list(RAW.items())[i % len(RAW)]
        place = rng.choice(places)
        text = dump(_put(value, place, _MARK)).replace(json.dumps(_MARK), raw).replace(f'"{_MARK}"', raw)
        yield f"{'.'.join(map(str, place))}: {name}", text.encode()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    head, *rest = place
    if isinstance(value, dict):
        return {key: _put(item, tuple(rest), new) if key == head else item for key, item in value.items()}
    return [_put(item, tuple(rest), new) if i == head else item for i, item in enumerate(value)]
