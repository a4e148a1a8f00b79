"""Class impressions: concentrations by hand, moments of the Dirichlet law, answers that come near their soft labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import NotApplicable
from bench.interfaces import ModelHandle
from methods.sources._class_impression_objective import concentrations, draw_soft_labels, scales
from methods.sources.class_impression import METHOD
from tests.sources.toy import CLASSES, NoNorm, context, handle, request, transformer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_concentrations_are_cosines_between_their_rows_extremes() -> None:
    weight = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0], [1.0, 1.0]])
    found = concentrations(weight, 1e-3)
    half = 0.5**0.5
    known = [
        [1.0, 0.5, 1e-3, (half + 1) / 2],  # cosines 1, 0, -1, 0.71
        [1e-3, 1.0, 1e-3, half],  # 0, 1, 0, 0.71: the two least are held up
        [1e-3, 0.5, 1.0, (1 - half) / 2],
        [2 * half / (1 + half), 2 * half / (1 + half), 1e-3, 1.0],  # 0.71, 0.71, -0.71, 1
    ]
    torch.testing.assert_close(found, torch.tensor(known, dtype=torch.float64))
    torch.testing.assert_close(concentrations(5 * weight, 1e-3), found)


def test_soft_labels_have_the_moments_of_their_law() -> None:
    """E y = a / A, Var y = m (1 - m) / (A + 1)."""
    alpha = torch.tensor([0.7, 0.2, 1.4], dtype=torch.float64)
    drawn = draw_soft_labels(alpha.expand(20_000, 3), generator()).double()
    torch.testing.assert_close(drawn.sum(1), torch.ones(20_000, dtype=torch.float64), rtol=0, atol=1e-5)
    mean = alpha / alpha.sum()
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.01)
    torch.testing.assert_close(drawn.var(0), mean * (1 - mean) / (alpha.sum() + 1), rtol=0, atol=0.01)


def test_small_factors_make_sharp_labels_of_similar_classes() -> None:
    alpha = concentrations(torch.randn(6, 4, generator=generator()), 1e-3)
    sharp, flat = (draw_soft_labels((beta * alpha).repeat(200, 1), generator(1)) for beta in (0.1, 10.0))
    assert float(sharp.amax(1).mean()) > float(flat.amax(1).mean()) + 0.2
    assert bool(sharp.isfinite().all())
    # of the classes other than its own, the mass goes to the likest
    row = alpha[0].clone()
    row[0] = 0
    mass = draw_soft_labels(alpha[:1].expand(2000, -1), generator(2)).mean(0)
    mass[0] = 0
    assert int(mass.argmax()) == int(row.argmax())


def test_draws_come_from_the_generator_alone() -> None:
    alpha = torch.full((5, 3), 0.3, dtype=torch.float64)
    assert torch.equal(draw_soft_labels(alpha, generator(4)), draw_soft_labels(alpha, generator(4)))
    assert not torch.equal(draw_soft_labels(alpha, generator(4)), draw_soft_labels(alpha, generator(5)))


@pytest.mark.parametrize("classes", [4, 5])
def test_every_class_meets_every_factor_in_equal_shares(classes: int) -> None:
    params: Any = METHOD.Params()
    found = torch.cat([scales(params, 2 * classes, classes, k) for k in range(2)])
    labels = torch.arange(len(found)) % classes
    for label in range(classes):
        assert sorted(found[labels == label].tolist()) == [0.1, 0.1, 1.0, 1.0]
    assert abs(int((found[:classes] == 1.0).sum()) * 2 - classes) <= 1  # a prefix holds both


@pytest.fixture(scope="module")
def bare() -> ModelHandle:
    return handle(NoNorm().eval(), "plain")


def cross_entropy(module: nn.Module, images: Tensor, soft: Tensor, temperature: float) -> float:
    with torch.no_grad():
        return float(-(soft * F.log_softmax(module(images) / temperature, 1)).sum(1).mean())


@pytest.mark.parametrize("kind", ["trained", "without norms", "transformer"])
def test_answers_come_near_the_soft_labels(kind: str, zoo: tuple[ModelHandle, ...], bare: ModelHandle) -> None:
    network = {"trained": zoo[1], "without norms": bare, "transformer": handle(transformer(), "vit")}[kind]
    small: dict[str, Any] = {"batch": 8, "lr": 0.1, "temperature": 2.0}
    start, made = (
        METHOD.synthesize_batch(request(METHOD, (network,), **small, iterations=steps), context()) for steps in (1, 60)
    )
    assert made.soft_labels is not None
    assert start.soft_labels is not None
    assert torch.equal(made.soft_labels, start.soft_labels)
    assert made.labels is not None
    assert torch.equal(made.labels, made.soft_labels.argmax(1))
    before, after = (cross_entropy(network.module, b.images, made.soft_labels, 2.0) for b in (start, made))
    assert after < before
    assert set(made.info["losses"]) == {"loss", "ce", "top1"}


def test_a_network_with_another_last_layer_is_not_applicable() -> None:
    class Wide(NoNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :CLASSES]

    wide = Wide().eval()
    wide.fc = nn.Linear(32, CLASSES + 3)
    with pytest.raises(NotApplicable, match="no last layer"):
        METHOD.synthesize_batch(request(METHOD, (handle(wide),), batch=4, iterations=2), context())
