"""Images of another domain with its own labels: their tier, and that the labels are those of their images."""

from __future__ import annotations

import dataclasses

import torch

from bench.data.access import DataAccess
from bench.data.datasets import get_dataset
from methods.sources.proxy_data import METHOD
from tests.sources.toy import ToyData, context, request


def test_images_come_with_their_own_labels() -> None:
    data = ToyData()
    batch = METHOD.synthesize_batch(request(METHOD, (), batch=8), context(data=data))
    assert data.reads == ["unrelated"]
    asked = request(METHOD, (), batch=8)
    images, labels = ToyData().unrelated_labelled(8, torch.Generator().manual_seed(asked.set_seed))
    assert batch.labels is not None
    assert torch.equal(batch.images, images)
    assert torch.equal(batch.labels, labels)
    assert (METHOD.access, METHOD.control, METHOD.models, METHOD.label_kind) == ("T3", "none", "none", "foreign")


def test_the_second_batch_goes_on_where_the_first_ended() -> None:
    first, second = (
        METHOD.synthesize_batch(request(METHOD, (), index, batch=8), context(data=ToyData())) for index in (0, 1)
    )
    assert not any(torch.equal(one, other) for one in first.images for other in second.images)


def test_the_last_batch_holds_what_is_left() -> None:
    """A search on all 1,797 digits ended in an error: 15 batches of 128 would be 1,920."""
    data = DataAccess(get_dataset("fashion_mnist"), "T3", get_dataset("digits"))
    sizes = [
        len(
            METHOD.synthesize_batch(
                request(METHOD, (), index, batch=128), dataclasses.replace(context(), data=data)
            ).images
        )
        for index in (0, 13, 14)
    ]
    assert sizes == [128, 128, 1797 - 14 * 128]
