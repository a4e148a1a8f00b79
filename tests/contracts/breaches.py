"""How a breach of a contract is written down: a class that breaks one rule, and the check that must see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Breaches:
    """The breaches of one kind's contract."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[type, Callable[..., None]]] = {}

    def of(self, check: Callable[..., None]) -> Callable[[type], type]:
        """Decorator: this class must fail ``check``."""

        def put(cls: type) -> type:
            self.found[cls.__name__] = (cls, check)
            return cls

        return put

    def add(self, check: Callable[..., None], base: type, **names: Any) -> None:
        """Classes in short: each of ``names`` is ``base`` with these attributes, and must fail ``check``."""
        for name, attributes in names.items():
            self.of(check)(type(name, (base,), attributes))
