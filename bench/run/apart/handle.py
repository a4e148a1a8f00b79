"""A method's door to data where the data lies in another process: each read is a question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from bench.data.access import DataAccess
from bench.errors import AccessDenied, BenchError, DataError
from bench.run.apart.wire import Message

Ask = Callable[[Message], Message]

STATE = "generator"
"""Name of the tensor that holds a generator's state."""

READS = (
    *("train_images", "unlabelled_images", "training_set", "training_batches", "next_batch"),
    *("unrelated_images", "unrelated_labelled"),
)

_KINDS = {kind.__name__: kind for kind in (AccessDenied, DataError)}


class RemoteData(DataAccess):
    """As :class:`DataAccess`; data set, tier and audit are the engine's, and here is nothing of them."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    @property
    def audit(self) -> tuple[dict[str, Any], ...]:
        """Nothing: it is kept where the reads are answered."""
        return ()

    def train_images(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, Tensor, list[int]]:
        """As :meth:`DataAccess.train_images`."""
        found = self._read("train_images", generator, count=count, start=start)
        return found.tensors["images"], found.tensors["labels"], list(found.body["picks"])

    def unlabelled_images(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, list[int]]:
        """As :meth:`DataAccess.unlabelled_images`."""
        found = self._read("unlabelled_images", generator, count=count, start=start)
        return found.tensors["images"], list(found.body["picks"])

    def training_set(self) -> tuple[Tensor, Tensor]:
        """As :meth:`DataAccess.training_set`."""
        found = self._read("training_set")
        return found.tensors["images"], found.tensors["labels"]

    def training_batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`DataAccess.training_batches`."""
        number = self._read("training_batches", generator, size=size).body["number"]
        return self._batches(number)

    def unrelated_images(self, count: int, generator: torch.Generator, start: int | None = None) -> Tensor:
        """As :meth:`DataAccess.unrelated_images`."""
        return self._read("unrelated_images", generator, count=count, start=start).tensors["images"]

    def unrelated_labelled(
        self, count: int, generator: torch.Generator, start: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`DataAccess.unrelated_labelled`."""
        found = self._read("unrelated_labelled", generator, count=count, start=start)
        return found.tensors["images"], found.tensors["labels"]

    def _batches(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        while "images" in (found := self._read("next_batch", number=number)).tensors:
            yield found.tensors["images"], found.tensors["labels"]

    def _read(self, what: str, generator: torch.Generator | None = None, **asked: int | None) -> Message:
        state = {} if generator is None else {STATE: generator.get_state()}
        found = self._ask(
            Message(what, {name: int(value) for name, value in asked.items() if value is not None}, state)
        )
        if found.kind != what:
            raise _KINDS.get(found.kind, BenchError)(found.body["what"], **found.body["facts"])
        if generator is not None:
            generator.set_state(found.tensors[STATE])
        return found


class Desk:
    """Answers the questions of a :class:`RemoteData` from a handle, which denies and records."""

    def __init__(self, access: DataAccess) -> None:
        self._access = access
        self._passes: list[Iterator[tuple[Tensor, Tensor]]] = []

    def answer(self, question: Message) -> Message:
        """What was read, or the error that the handle raised.

        Raises:
            KeyError, TypeError, RuntimeError, IndexError: the question is none that :class:`RemoteData` asks.
        """
        generator = torch.Generator()
        if STATE in question.tensors:
            generator.set_state(question.tensors[STATE])
        try:
            body, tensors = self._found(question.kind, question.body, generator)
        except (AccessDenied, DataError) as error:
            facts = {"where": error.where, "got": None if error.got is None else str(error.got)}
            facts |= {"expected": error.expected, "nearest": error.nearest, "hint": error.hint}
            return Message(type(error).__name__, {"what": error.what, "facts": facts})
        return Message(question.kind, body, {**tensors, STATE: generator.get_state()})

    def _found(
        self, what: str, asked: Mapping[str, Any], generator: torch.Generator
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        if what == "train_images":
            images, labels, picks = self._access.train_images(asked["count"], generator, asked.get("start"))
            return {"picks": picks}, {"images": images, "labels": labels}
        if what == "unlabelled_images":
            images, picks = self._access.unlabelled_images(asked["count"], generator, asked.get("start"))
            return {"picks": picks}, {"images": images}
        if what == "training_set":
            return {}, dict(zip(("images", "labels"), self._access.training_set(), strict=True))
        if what == "training_batches":
            self._passes.append(self._access.training_batches(asked["size"], generator))
            return {"number": len(self._passes) - 1}, {}
        if what == "next_batch":
            pair = next(self._passes[asked["number"]], None)
            return {}, dict(zip(("images", "labels"), pair, strict=True)) if pair else {}
        if what == "unrelated_labelled":
            labelled = self._access.unrelated_labelled(asked["count"], generator, asked.get("start"))
            return {}, dict(zip(("images", "labels"), labelled, strict=True))
        return {}, {"images": self._access.unrelated_images(asked["count"], generator, asked.get("start"))}
