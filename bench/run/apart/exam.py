"""The test images for a network whose code is foreign: it sees images, the engine keeps labels and marks its answers.

So nothing the network's own code can reach (its caller's variables, the garbage collector, files) says what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from bench.data.datasets import Arrays
from bench.run.apart.wire import Message

BEGIN, NEXT = "test_images", "next_test_images"
QUESTIONS = (BEGIN, NEXT)


class Exam:
    """The engine's end: hands images out in batches; ``batches`` gives them anew, with labels that stay here."""

    def __init__(self, batches: Callable[[], Iterator[Arrays]]) -> None:
        self._batches = batches
        self._rest: Iterator[Arrays] = iter(())
        self.begun = False

    def answer(self, question: Message) -> Message:
        """To BEGIN nothing, to NEXT the next batch's images, none when there are no more."""
        if question.kind == BEGIN:
            self.begun, self._rest = True, self._batches()
            return Message(BEGIN)
        images = next(self._rest, (None,))[0]
        return Message(NEXT, {}, {} if images is None else {"images": images})


def sat(ask: Callable[[Message], Message]) -> Iterator[Arrays]:
    """The network's end: images as the engine hands them out, with -1 in place of each label."""
    ask(Message(BEGIN))
    while "images" in (found := ask(Message(NEXT))).tensors:
        images = found.tensors["images"]
        yield images, torch.full((len(images),), -1)
