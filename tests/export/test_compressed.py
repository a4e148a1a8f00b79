"""What compressors deliver has an integer form, or says why not; pruned and distilled networks are written as they are
(docs/export.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from bench.errors import NotApplicable
from bench.export.graph import float_model, integer_model
from bench.export.reading import differences, read
from bench.export.report import integers_of, layer_rows
from bench.export.running import Session
from bench.interfaces import Setting, Variant
from tests import pick
from tests.compressors.recon_toys import context, handle, image_set

FEW = {"steps": 3, "batch": 16, "iterations": 2, "step_iterations": 2, "mask_iterations": 2, "weight_iterations": 2}
QUANTISING = list(pick.methods("compressors", accepts="bits"))
SHAPE = (3, 8, 8)


def small(method: Any) -> Any:
    """Its parameters, with few steps."""
    return method.Params(**{key: value for key, value in FEW.items() if key in method.Params.model_fields})


def made(name: str, setting: Setting) -> Iterator[Variant]:
    method = pick.methods("compressors")[name]
    images = image_set(32)
    ctx = dataclasses.replace(context(), untrained=pupil)
    yield from method.compress(handle(), images, setting, small(method), ctx).variants


def pupil(name: str) -> nn.Module:
    """An untrained student, whatever the name, with a normalisation."""
    body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3))
    return body.extend([nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)])


@pytest.mark.parametrize("name", QUANTISING)
def test_the_integer_form_is_the_network_that_is_measured(name: str) -> None:
    """Every quantising compressor, toy network, W3A4; weights on their grids, logits equal."""
    x = image_set(16, seed=3).images
    variants = list(made(name, Setting(3, 4)))
    assert variants
    for variant in variants:
        if variant.image_bitops is not None:
            with pytest.raises(NotApplicable, match="images decide"):
                integers_of(variant)
            continue
        found = integers_of(variant)
        with torch.no_grad():
            torch.testing.assert_close(found.module(x), variant.module(x), rtol=1e-4, atol=1e-5)
        asked = {layer: bits.weight for layer, bits in variant.layer_bits.items() if bits.weight < 32}
        assert {layer: grid.bits for layer, grid in found.weights.items()} == asked
        assert asked
        for layer, grid in found.weights.items():
            weight = found.module.get_submodule(layer).weight
            assert isinstance(weight, torch.Tensor)
            codes = grid.codes(weight)
            assert grid.low <= int(codes.min())
            assert int(codes.max()) <= grid.high
            torch.testing.assert_close(grid.values(codes), weight.detach(), rtol=1e-4, atol=1e-6)
        assert len(found.points) == len(variant.layer_bits) - 1


def test_a_trained_network_runs_as_it_was_measured(tmp_path: Path) -> None:
    """Normalisation folded behind weights of a symmetric or a shifted grid."""
    trained = pick.methods("compressors", accepts="bits", params=("steps", "features"))
    if not trained:
        pytest.skip("no installed compressor trains")
    x = image_set(64, seed=5).images
    variant = next(made(next(iter(trained)), Setting(4, 4)))
    file = tmp_path / "net.onnx"
    ir.save(integer_model(integers_of(variant), x[:2], two_bits=False), file)
    content = read(file)
    assert differences(content, integers_of(variant)) == []
    with torch.no_grad():
        simulated = variant.module(x).numpy()
    exported = Session(file)(x)[0]
    assert (simulated.argmax(1) == exported.argmax(1)).mean() >= 0.9
    rows = layer_rows(variant, handle().module, SHAPE, content)
    assert all(row["agrees"] for row in rows)
    assert [row["file_weight_levels"] for row in rows] == [row["weight_levels"] for row in rows]


def test_a_pruned_network_is_written_with_its_zeros(tmp_path: Path) -> None:
    zeroing = pick.name("compressors", makes_zeros=True)
    x = image_set(32, seed=5).images
    variant = next(made(zeroing, Setting(sparsity=0.5)))
    assert variant.integers is None
    integers = integers_of(variant)
    assert not integers.weights
    file = tmp_path / "net.onnx"
    ir.save(float_model(integers.module, x[:2]), file)
    content = read(file)
    with torch.no_grad():
        expected = variant.module(x).numpy()
    np.testing.assert_allclose(Session(file)(x)[0], expected, rtol=1e-4, atol=1e-4)
    assert differences(content, integers_of(variant)) == []
    name, values = next(iter(content.floats.items()))
    changed = dataclasses.replace(content, floats={**content.floats, name: values + 1})
    assert differences(changed, integers_of(variant)) == [f"{name}: the weight differs"]
    rows = layer_rows(variant, handle().module, SHAPE, content)
    assert [row["file_nonzero"] for row in rows] == [row["nonzero"] for row in rows]
    assert any(row["file_nonzero"] <= row["parameters"] // 2 for row in rows)
    assert all(row["agrees"] for row in rows)


def test_a_distilled_network_is_written_as_it_is(tmp_path: Path) -> None:
    distilling = pick.name("compressors", accepts="student")
    x = image_set(32, seed=5).images
    variant = next(made(distilling, Setting(student="toy/pupil")))
    file = tmp_path / "net.onnx"
    ir.save(float_model(integers_of(variant).module, x[:2]), file)
    content = read(file)
    with torch.no_grad():
        expected = variant.module(x).numpy()
    np.testing.assert_allclose(Session(file)(x)[0], expected, rtol=1e-4, atol=1e-4)
    assert differences(content, integers_of(variant)) == []
    rows = layer_rows(variant, handle().module, SHAPE, content)
    assert [row["name"] for row in rows] == ["0", "3", "7"]
    assert all(row["agrees"] and row["weight_bits"] == 32 for row in rows)
