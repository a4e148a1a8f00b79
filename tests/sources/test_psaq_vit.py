"""PSAQ-ViT: entropy of a kernel density by an independent sum, patches of real transformers, what makes it grow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from pydantic import ValidationError
from torch import Tensor, nn

from bench.errors import NotApplicable
from methods.sources._losses import tv_l2
from methods.sources._objectives import Network
from methods.sources._psaq_vit_objective import (
    Patches,
    attentions,
    differential_entropy,
    patch_entropy,
    similarities,
)
from methods.sources.psaq_vit import METHOD
from tests.sources.toy import COLOUR, GREY, NoNorm, ToyNet, context, handle, request, transformer

PARAMS: Any = METHOD.Params


def draws(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_entropy_of_one_kernel_is_that_of_a_normal_law() -> None:
    """-∫ f log f of N(m, h²) is log(h sqrt(2 pi e)), wherever it lies."""
    for bandwidth in (0.02, 0.05, 0.3):
        found = differential_entropy(torch.full((2, 7), 0.4), bandwidth, 64)
        known = math.log(bandwidth * math.sqrt(2 * math.pi * math.e))
        torch.testing.assert_close(found, torch.full((2,), known), rtol=0, atol=0.03)


def test_entropy_agrees_with_a_fine_sum() -> None:
    values, h = 0.2 * draws(1, 30), 0.05
    places = np.linspace(-2, 2, 40_001)
    kernels = np.exp(-0.5 * ((places[:, None] - values.numpy().astype(float)) / h) ** 2)
    density = kernels.mean(1) / (h * math.sqrt(2 * math.pi))
    known = -np.sum(density * np.log(density + 1e-300)) * (places[1] - places[0])
    assert float(differential_entropy(values, h, 32)) == pytest.approx(known, abs=0.01)


def test_scattered_similarities_have_more_entropy_than_equal_ones() -> None:
    base = draws(1, 1, 8)
    alike, apart = base + 0.05 * draws(4, 9, 8), draws(4, 9, 8)
    assert float(patch_entropy([apart], 0.05, 32)) > float(patch_entropy([alike], 0.05, 32)) + 0.5
    both = patch_entropy([alike, apart], 0.05, 32)
    torch.testing.assert_close(both, patch_entropy([alike], 0.05, 32) + patch_entropy([apart], 0.05, 32))


def test_similarities_are_cosines_of_each_pair_once() -> None:
    x = draws(2, 4, 5)
    found = similarities(x)
    assert found.shape == (2, 6)
    known = [torch.cosine_similarity(x[1, i], x[1, j], dim=0) for i in range(4) for j in range(i + 1, 4)]
    torch.testing.assert_close(found[1], torch.stack(known))
    torch.testing.assert_close(similarities(3.0 * x), found)


def _swin() -> Any:
    sizes: dict[str, Any] = {"img_size": 16, "patch_size": 2, "window_size": 4, "embed_dim": 16}
    return timm.create_model("swin_tiny_patch4_window7_224", num_classes=4, depths=(2, 1), num_heads=(2, 2), **sizes)


def _vit(name: str) -> Any:
    return timm.create_model(name, num_classes=4, img_size=16, patch_size=4, depth=2, embed_dim=24, num_heads=3)


KINDS: dict[str, tuple[Any, list[tuple[int, int, int]]]] = {
    "vit": (lambda: _vit("vit_tiny_patch16_224"), [(3, 16, 8)] * 2),
    "deit with two class tokens": (lambda: _vit("deit_tiny_distilled_patch16_224"), [(3, 16, 8)] * 2),
    "swin": (_swin, [(12, 16, 8)] * 2 + [(3, 16, 16)]),
    "torchvision's": (
        lambda: torchvision.models.VisionTransformer(16, 4, 2, 3, 24, 48, num_classes=4),
        [(3, 16, 24)] * 2,
    ),
    "torchvision's swin": (
        lambda: torchvision.models.SwinTransformer([2, 2], 16, [2], [2], [4, 4], num_classes=4),
        [(3, 64, 16)] * 2,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_patches_of_every_kind_of_attention(kind: str) -> None:
    make, shapes = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make().eval()
    METHOD.check(PARAMS(), (handle(module, kind, COLOUR),))
    network = Network(handle(module, kind, COLOUR), COLOUR, context())
    patches = Patches(network)
    with torch.no_grad():
        network(draws(3, *COLOUR.shape))
        network(draws(3, *COLOUR.shape))  # the first is forgotten
    assert [tuple(x.shape) for x in patches.take()] == shapes
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_patches_are_the_means_of_the_heads_without_the_class_token() -> None:
    module = transformer()
    network = Network(handle(module), GREY, context())
    patches = Patches(network)
    seen: list[Tensor] = []
    block: Any = module.get_submodule("blocks.0.attn")
    hook = block.proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = draws(2, *GREY.shape)
    with torch.no_grad():
        module(x)
        network(x)
    hook.remove()
    heads = seen[0][:, 1:].reshape(2, 16, 2, 8)
    torch.testing.assert_close(patches.take()[0], (heads[:, :, 0] + heads[:, :, 1]) / 2)


@pytest.mark.parametrize("module", [ToyNet(), NoNorm()])
def test_a_network_without_attention_is_not_applicable(module: nn.Module) -> None:
    assert attentions(module.eval()) == []
    with pytest.raises(NotApplicable, match="plain has no self-attention"):
        METHOD.check(PARAMS(), (handle(module, "plain"),))


def test_inversion_raises_the_entropy_of_its_start_and_meets_the_roughness() -> None:
    network = handle(transformer())
    small: dict[str, Any] = {"batch": 8, "iterations": 60, "lr": 0.1, "roll": 0, "flip": False}
    start = METHOD.synthesize_batch(request(METHOD, (network,), **{**small, "iterations": 1, "lr": 1e-9}), context())
    batch = METHOD.synthesize_batch(request(METHOD, (network,), **small), context())
    assert batch.info["attentions"] == 2
    assert batch.info["patch_entropy"] > start.info["patch_entropy"] + 0.1
    assert batch.info["tv_target"] == start.info["tv_target"]

    def miss(images: Tensor) -> float:
        return abs(float(tv_l2(images, "rms")) - float(batch.info["tv_target"]))

    assert miss(batch.images) < 0.3 * miss(start.images)


def test_terms_of_weight_zero_are_left_out() -> None:
    only = {"entropy": {"ce", "tv"}, "ce": {"entropy", "tv"}, "tv": {"ce", "entropy"}}
    for dropped, kept in only.items():
        small: dict[str, Any] = {"batch": 4, dropped: 0.0}
        prepared = METHOD.prepare(request(METHOD, (handle(transformer()),), **small), context())
        found = prepared.objective.backward(prepared.init.clone().requires_grad_(), 1, False)
        assert set(found) == kept | {"loss"}
        assert float(found["loss"]) == pytest.approx(sum(float(found[name]) for name in kept), rel=1e-5)


def test_a_range_that_ends_below_its_beginning_is_refused() -> None:
    with pytest.raises(ValidationError, match="ends below"):
        PARAMS(tv_range=(2.0, 1.0))


def test_the_published_preset() -> None:
    paper = PARAMS(**METHOD.presets["paper"])
    assert (paper.iterations, paper.lr, paper.betas, paper.tv) == (1000, 0.2, (0.5, 0.9), 0.05)
    # 2500 to 3000 for 32 images of 224 pixels in three channels
    size = math.sqrt(32 * 3 * 224 * 224)
    assert [round(edge * size, -2) for edge in paper.tv_range] == [2500.0, 3000.0]
