"""Training images: their tier, their balance."""

from __future__ import annotations

from methods.sources.real import METHOD
from tests.sources.toy import CLASSES, ToyData, context, request


def test_it_is_the_upper_control_and_reads_labelled_training_images() -> None:
    data = ToyData()
    METHOD.synthesize_batch(request(METHOD, (), batch=8), context(data=data))
    assert data.reads == ["train"]
    assert (METHOD.access, METHOD.control, METHOD.models) == ("T5", "upper", "none")


def test_real_is_balanced_at_every_multiple_of_the_classes() -> None:
    labels = METHOD.synthesize_batch(request(METHOD, (), 1, batch=8), context()).labels
    assert labels is not None
    for start in range(0, 8, CLASSES):
        assert sorted(labels[start : start + CLASSES].tolist()) == list(range(CLASSES))
