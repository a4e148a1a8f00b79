"""Generators: body, class norms, the training loop, both deliveries (docs/methods/sources.md#generators, #invariant-9,
#invariant-13, #invariant-16)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import NotApplicable
from bench.interfaces import ImageBatch, ImageStream, ModelHandle
from methods.sources._features import Head
from methods.sources._generator_loop import full
from methods.sources._generator_source import GeneratorSource
from methods.sources._generators import Body, ClassNorm, Codes, ImageGenerator
from methods.sources._inversion import NonFiniteLoss
from methods.sources._losses import l2norm
from methods.sources._objectives import Network
from tests import pick
from tests.sources.toy import CLASSES, COLOUR, GREY, Curves, ToyNet, context, handle, request

SOURCES = {name: source for name, source in pick.methods("sources").items() if isinstance(source, GeneratorSource)}
SHORT: dict[str, Any] = {"iterations": 3, "batch": 8, "images": 12, "width": 8, "latent": 6}
PLAIN: dict[str, Any] = {"superpose": 0.0}
"""Switches off what makes the number of images drawn depend on the draws, in sources that have it."""


def short(name: str, **params: Any) -> dict[str, Any]:
    """Parameters of a run of a few iterations; those of ``params`` that the source has."""
    fields = SOURCES[name].Params.model_fields
    return {key: value for key, value in {**SHORT, **params}.items() if key in fields}


def batch_of(name: str, zoo: tuple[ModelHandle, ...], index: int = 0, seed: int = 0, **params: Any) -> ImageBatch:
    source = SOURCES[name]
    return source.synthesize_batch(request(source, zoo, index, **short(name, **params)), context(seed))


def stream_of(name: str, zoo: tuple[ModelHandle, ...], curves: Curves | None = None, **params: Any) -> ImageStream:
    source = SOURCES[name]
    return source.stream(request(source, zoo, **short(name, **params)), context(curves=curves))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", SOURCES)
def test_only_the_generator_gets_gradients(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    trainer = stream_of(name, zoo).trainer  # type: ignore[attr-defined]
    images = trainer.step().images
    assert not images.requires_grad
    for parameter in trainer.generator.parameters():
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())
    assert float(trainer.generator.body.linear.weight.grad.abs().sum()) > 0
    if trainer.generator.embedding is not None:
        assert float(trainer.generator.embedding.grad.abs().sum()) > 0
    assert all(p.grad is None for p in trainer.objective.teacher.taps.module.parameters())


@pytest.mark.parametrize("name", SOURCES)
def test_stream_shows_the_batch_before_the_update_and_trains_on(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    curves = Curves()
    plain, late = stream_of(name, zoo, curves=curves), stream_of(name, zoo, warmup=2)
    assert (plain.batch_size, plain.warmup, late.warmup) == (8, 0, 2)
    trainer = plain.trainer  # type: ignore[attr-defined]
    batches = []
    for _ in range(3):
        state = trainer.ctx.generator.get_state()
        with torch.no_grad():
            codes = trainer.objective.draw()
            expected = trainer.generator(codes)
        trainer.ctx.generator.set_state(state)
        batches.append(plain.next_batch())
        torch.testing.assert_close(batches[-1].images, expected)
        with torch.no_grad():
            assert not torch.allclose(trainer.generator(codes), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(late.next_batch().images, batches[2].images)
    assert not torch.equal(batches[0].images, batches[1].images)
    assert plain.forward_equivalents == late.forward_equivalents == sum(b.forward_equivalents for b in batches)
    assert plain.info()["iterations"] == 3
    assert plain.info()["generator_macs_ratio"] > 1
    assert all(name.startswith("generator_") for name in curves.points)
    assert [step for step, _ in curves.points["generator_loss"]] == [0, 1, 2]
    assert all(b.labels is not None and b.labels.shape == (8,) for b in batches)


@pytest.mark.parametrize("name", SOURCES)
def test_cached_is_the_stream_stopped_and_sampled(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    """The stored images come from the generator that as many steps of the stream leave behind."""
    curves = Curves()
    source = SOURCES[name]
    wanted = request(source, zoo, **short(name))
    batch = source.synthesize_batch(wanted, context(curves=curves))
    ctx = context()
    trainer = source.stream(wanted, ctx).trainer
    for _ in range(SHORT["iterations"]):
        trainer.step()
    assert torch.equal(source.sampled(trainer, wanted, ctx).images, batch.images)
    assert [step for step, _ in curves.points["loss"]] == [0, 1, 2]
    assert curves.reports[-1] == ("train generator", 3, 3)


@pytest.mark.parametrize("name", SOURCES)
def test_cost_counts_generator_and_networks(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    """Forward and backward of every image through each of them, then one forward each, by multiply-accumulates."""
    batch = batch_of(name, zoo, images=16, mix=2, **PLAIN)
    networks = 1 + (2 if "mix" in short(name, mix=2) else 0)
    assert sum(batch.info["histogram"]) == 16
    maps, inputs = 16, SHORT["latent"]
    macs = inputs * 8 * maps + 9 * (8 * 8 * 4 * maps + 8 * 4 * 16 * maps + 4 * 1 * 16 * maps)  # toy's are 1
    assert batch.info["generator_macs_ratio"] == macs
    assert batch.forward_equivalents == 3 * 8 * 2 * (networks + macs) + 16 * (1 + macs)


@pytest.mark.parametrize("name", SOURCES)
def test_loss_that_leaves_the_finite_numbers_is_tried_once_more(
    name: str, zoo: tuple[ModelHandle, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second step of the first attempt goes wrong, nothing after it."""
    source, steps = SOURCES[name], list[int]()
    build = source.build

    def broken_once(*args: Any) -> Any:
        trainer = build(*args)
        backward = trainer.objective.backward

        def bad(*args: Any) -> Any:
            steps.append(1)
            found, logits = backward(*args)
            return ({**found, "loss": found["loss"] * float("nan")} if len(steps) == 2 else found), logits

        monkeypatch.setattr(trainer.objective, "backward", bad)
        return trainer

    expected = batch_of(name, zoo, lr=0.002, images=16, mix=1, **PLAIN)
    monkeypatch.setattr(source, "build", broken_once, raising=False)
    batch = batch_of(name, zoo, lr=0.002, images=16, mix=1, **PLAIN)
    assert (expected.info["retried_at_half_lr"], batch.info["retried_at_half_lr"]) == (False, True)
    assert (expected.info["lr"], batch.info["lr"]) == (0.002, 0.001)
    assert len(steps) == 2 + 3
    networks = 1 + len({"mix"} & set(short(name, mix=1)))
    failed = 2 * 8 * 2 * (networks + batch.info["generator_macs_ratio"])  # two steps
    assert batch.forward_equivalents == expected.forward_equivalents + failed
    assert bool(torch.isfinite(batch.images).all())


@pytest.mark.parametrize("name", SOURCES)
def test_loss_that_stays_beyond_the_finite_numbers_is_an_error(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    with pytest.raises(NonFiniteLoss):
        batch_of(name, zoo, lr=1e37)


@pytest.mark.parametrize("name", SOURCES)
def test_statistics_are_those_of_all_images_together(name: str, zoo: tuple[ModelHandle, ...]) -> None:
    """As the inverted sources record them, whatever the training's batch; only a mean over batches would be larger."""
    batch = batch_of(name, zoo, images=24, **PLAIN)
    with torch.no_grad():
        _, stats = Network(zoo[0], GREY, context())(batch.images)
    assert stats is not None
    assert batch.info["clean_bn"] == {zoo[0].name: pytest.approx(float(l2norm(stats)), rel=1e-4)}


@pytest.mark.parametrize("name", SOURCES)
def test_colour_images_of_a_size_that_four_does_not_divide(name: str) -> None:
    from dataclasses import replace

    odd = replace(COLOUR, shape=(3, 18, 14))
    net = handle(ToyNet(channels=3).eval(), "colour", odd)
    source = SOURCES[name]
    batch = source.synthesize_batch(request(source, (net,), dataset=odd, **short(name)), context())
    assert batch.images.shape == (12, 3, 18, 14)


@pytest.mark.parametrize("classes", [0, 3])
def test_body_is_the_published_stack(classes: int) -> None:
    """Against torch's own layers in train mode, with the same weights."""
    body = Body(5, (2, 8, 8), 6, 0.8, rng(), classes)
    z, shares = torch.randn(4, 5, generator=rng(1)), torch.rand(4, 3, generator=rng(2))
    if classes:
        for norm in body.norms:
            nn.init.normal_(norm.scale, generator=rng(3))  # type: ignore[arg-type]
            nn.init.normal_(norm.shift, generator=rng(4))  # type: ignore[arg-type]

    def normed(x: Tensor, index: int, eps: float) -> Tensor:
        out = F.batch_norm(x, None, None, training=True, eps=eps)
        if not classes:
            return out
        norm: Any = body.norms[index]
        rows = [sum(shares[b, c] * t[c] for c in range(3)) for b in range(4) for t in (norm.scale, norm.shift)]
        scale, shift = torch.stack(rows[::2]), torch.stack(rows[1::2])
        return out * scale[..., None, None] + shift[..., None, None]

    x = normed(body.linear(z).view(4, 6, 2, 2), 0, 1e-5)
    x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = F.leaky_relu(normed(body.convs[0](x), 1, 0.8), 0.2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = F.leaky_relu(normed(body.convs[1](x), 2, 0.8), 0.2)
    expected = F.batch_norm(torch.tanh(body.convs[2](x)), None, None, training=True)
    torch.testing.assert_close(body(z, shares) if classes else body(z), expected)
    assert torch.equal(body(z, shares), body.eval()(z, shares))


def test_class_norm_starts_as_plain_norm_and_sums_over_slots() -> None:
    norm = ClassNorm(3, 4, 1e-5)
    x = torch.randn(5, 3, 6, 6, generator=rng())
    shares = torch.randn(5, 7, generator=rng(1)).softmax(1)
    classes = torch.randint(4, (5, 7), generator=rng(2))
    soft = Codes(torch.zeros(5, 7, 2), classes, shares).soft(4)
    torch.testing.assert_close(norm(x, soft), F.batch_norm(x, None, None, training=True))
    torch.testing.assert_close(soft @ norm.scale, torch.ones(5, 3))


def test_body_starts_within_the_usual_bounds() -> None:
    body = Body(16, (1, 16, 16), 8, 0.8, rng())
    for layer in (body.linear, *body.convs):
        bound = layer.weight[0].numel() ** -0.5  # type: ignore[index, union-attr, operator]
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound  # type: ignore[union-attr, operator, arg-type]


def test_entries() -> None:
    body, table = Body(6, (1, 8, 8), 4, 0.8, rng()), torch.randn(CLASSES, 6, generator=rng(1))
    z, classes = torch.randn(3, 2, 6, generator=rng(2)), torch.tensor([[0, 1], [2, 2], [3, 0]])
    shares = torch.tensor([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])
    product = ImageGenerator(body, "product", table).latent(Codes(z[:, :1], classes[:, :1]))
    torch.testing.assert_close(product, table[classes[:, 0]] * z[:, 0])
    mixed = ImageGenerator(body, "superposed", table).latent(Codes(z, classes, shares))
    for b in range(3):
        slots = [table[classes[b, k]] + z[b, k] for k in range(2)]
        parts = [(s - s.mean()) / (s.var(correction=0) + 1e-5).sqrt() for s in slots]
        torch.testing.assert_close(mixed[b], shares[b, 0] * parts[0] + shares[b, 1] * parts[1])
    assert torch.equal(ImageGenerator(body).latent(Codes(z)), z[:, 0])


class EndsInConvolution(nn.Module):
    """Its classifier is a 1x1 convolution, registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(8, CLASSES, 1)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.body(x)).flatten(1)  # type: ignore[no-any-return]


def test_head_is_the_last_layer_to_run() -> None:
    for net in (ToyNet().eval(), EndsInConvolution().eval()):
        network = Network(handle(net), GREY, context())
        head = Head(network, GREY.shape, CLASSES)
        logits, _ = network(torch.randn(3, *GREY.shape, generator=rng()))
        bias = (net.fc if isinstance(net, ToyNet) else net.classifier).bias
        torch.testing.assert_close(head.features() @ head.weight.T + bias, logits)
    with pytest.raises(NotApplicable, match="each of 9 classes"):
        Head(network, GREY.shape, 9)


def test_full_batches() -> None:
    assert [full(n, 8) for n in (0, 1, 8, 9)] == [0, 8, 8, 16]
