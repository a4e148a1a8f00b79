"""Labels of other classes than the network's, as a proxy data set has them, serve every search or are left alone."""

from __future__ import annotations

import dataclasses
import tempfile

import pytest
import torch

from bench.spec.registry import Registry
from tests.contracts import kit
from tests.contracts.policies import Search
from tests.contracts.toys import SPEC, context, images, teacher

LEARNING = "epochs"
"""What a search has that trains on labels, with a classifier of its own for these."""


@pytest.mark.parametrize("name", kit.installed("policies"))
def test_labels_beyond_the_networks_classes(name: str) -> None:
    case = Search(name, Registry("policies").get(name))
    plain = images()
    labels = torch.arange(len(plain.images)) % (SPEC.classes + 4)
    foreign = dataclasses.replace(plain, labels=labels, label_kind="foreign")
    with tempfile.TemporaryDirectory() as scratch:
        found = case.run(context(3, scratch), teacher(), foreign).policy
        own = case.run(context(3, scratch), teacher(), plain).policy
    assert found
    if LEARNING not in type(case.params).model_fields:
        assert found == own  # the network's own answers stand for labels that are not its
