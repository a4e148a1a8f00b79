"""Top-1 accuracy with a verdict per image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.data.datasets import BATCH
from bench.zoo.outputs import is_logits, no_logits


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode and no autograd within; every submodule's own flag is restored after."""
    flags = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part, training in flags.items():
            part.training = training


def batches(images: Tensor, labels: Tensor | None = None, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """Consecutive views of images [N, ...] and labels [N] that lie in memory; without labels the second is empty.

    Raises:
        ValueError: lengths differ, or the size is not positive.
    """
    if size < 1 or (labels is not None and len(labels) != len(images)):
        raise ValueError(f"{len(images)} images, {None if labels is None else len(labels)} labels, batches of {size}")
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield images[part], labels[part] if labels is not None else torch.empty(0, dtype=torch.int64)


def to_input(
    images: Tensor, device: torch.device, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Tensor:
    """Images on ``device`` as float: bytes [B, C, H, W] are scaled to [0, 1] and normalised per channel there.

    Floating-point images are taken as normalised already.

    Raises:
        ValueError: bytes without mean and std.
    """
    moved = images.to(device, non_blocking=True)
    if moved.dtype != torch.uint8:
        return moved
    if mean is None or std is None:
        raise ValueError("uint8 images need the constants they are to be normalised with")
    shape = (1, -1, 1, 1)
    centre = torch.tensor(mean, device=device).view(shape)
    return (moved.float() / 255 - centre) / torch.tensor(std, device=device).view(shape)


def evaluate(
    module: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[float, npt.NDArray[np.bool_]]:
    """Top-1 in percent and correctness [N] in the order of the data.

    The module lies on ``device`` and is left as it was.  An image whose logits are not all finite counts as wrong:
    argmax over NaN returns an index all the same, and a broken network would score at chance.

    Args:
        data: batches of images ([B, C, H, W] uint8, or floating point in normalised space) and labels [B], as
            ``Dataset.test_batches`` and :func:`batches` give them; one at a time is held.
        mean, std: per channel of pixels in [0, 1]; needed for uint8 images.

    Raises:
        ValueError: no image, or a batch whose labels do not match its images.
        WeightsError: the module returns something else than logits [B, classes].
    """
    # Bytes, not an array per batch: each would stay between the freed activations of its batch, which then fit no later
    # one, and memory would grow by tens of megabytes a batch (measured: 900 MB over 2,000 images of 224×224).
    verdicts = bytearray()
    with eval_mode(module):
        for images, labels in data:
            if len(images) != len(labels):
                raise ValueError(f"{len(images)} images with {len(labels)} labels")
            right = _answers(module, to_input(images, torch.device(device), mean, std)) == labels.to(device)
            verdicts += right.cpu().numpy().tobytes()
    if not verdicts:
        raise ValueError("no images to evaluate on")
    correct = np.frombuffer(verdicts, dtype=np.bool_).copy()
    return 100 * float(correct.mean()), correct


def predictions(
    module: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Tensor:
    """The module's class for each image, int64 [N]; -1 where its logits are not all finite.  Arguments as
    :func:`evaluate` takes them; no label is looked at.

    Raises:
        WeightsError: as there.
    """
    found = bytearray()
    with eval_mode(module):
        for images, _ in data:
            answers = _answers(module, to_input(images, torch.device(device), mean, std))
            found += answers.to(torch.int64).cpu().numpy().tobytes()
    return torch.from_numpy(np.frombuffer(found, dtype=np.int64).copy())


def marked(answers: Tensor, labels: Tensor) -> tuple[float, npt.NDArray[np.bool_]]:
    """What :func:`evaluate` says, from the :func:`predictions` [N] and the labels [N].

    Raises:
        ValueError: not one answer for each label, or none.
    """
    if answers.shape != labels.shape or not len(labels):
        raise ValueError(f"{tuple(answers.shape)} answers to {len(labels)} images")
    correct: npt.NDArray[np.bool_] = (answers == labels).numpy()
    return 100 * float(correct.mean()), correct


def classes_of(logits: Tensor) -> Tensor:
    """Class of the greatest of logits [N, K], int64 [N]; -1 where one is not finite: no label is that."""
    return logits.argmax(dim=1).where(torch.isfinite(logits).all(dim=1), -1)


def _answers(module: nn.Module, images: Tensor) -> Tensor:
    """Class [B] of each image, as :func:`classes_of`."""
    logits: Tensor = module(images)
    if not is_logits(logits):
        raise no_logits(logits)
    return classes_of(logits)
