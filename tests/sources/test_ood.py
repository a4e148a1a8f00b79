"""Images of another domain: their tier, no labels."""

from __future__ import annotations

from methods.sources.ood import METHOD
from tests.sources.toy import ToyData, context, request


def test_it_reads_unrelated_images_only() -> None:
    data = ToyData()
    batch = METHOD.synthesize_batch(request(METHOD, (), batch=8), context(data=data))
    assert data.reads == ["unrelated"]
    assert batch.labels is None
    assert (METHOD.access, METHOD.control, METHOD.models) == ("T3", "none", "none")
