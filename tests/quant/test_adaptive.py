"""Several bit-widths of one network: its quantisers, what is shared and what is switched
(docs/methods/quantisation.md#adaptive, #nested-quantiser)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.interfaces import BitPolicy, Setting
from methods.quant.adaptive import AdaptiveModel
from methods.quant.learned import PactActivation
from methods.quant.learned_weights import SquashedWeight, dorefa_weight, modified_weight
from methods.quant.switched import SwitchedActivation, SwitchedNorm, without_gradient
from methods.quant.widths import narrowed, widths_of
from tests.compressors.adaptive_toys import W8A8, adaptive, makers, toy
from tests.compressors.recon_toys import image_set
from tests.quant.nets import Untraceable, images, randomise

WEIGHT = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
NORMS = ("running_mean", "running_var", "num_batches_tracked")


def codes(weight: Tensor, bits: int) -> Tensor:
    """The codes of AdaBits' weights."""
    found = (modified_weight(weight, bits) + 1) * 2 ** (bits - 1)
    assert torch.equal(found, found.round())
    return found.long()


def test_modified_codes_are_nested_and_dorefas_are_not() -> None:
    """Truncating the 8-bit code gives the code of every lower width, which is how one stored network serves all."""
    whole = codes(WEIGHT, 8)
    assert len(torch.unique(whole)) > 100
    squashed = np.tanh(WEIGHT.double().numpy())
    t = squashed / (2 * np.abs(squashed).max()) + 0.5
    for bits in range(2, 9):
        assert torch.equal(codes(WEIGHT, bits), whole >> (8 - bits))
        wanted = np.minimum(np.floor(t * 2**bits), 2**bits - 1)
        assert (codes(WEIGHT, bits).numpy() == wanted).mean() > 0.99  # in double, a value may fall on the other side
    original = torch.round((dorefa_weight(WEIGHT, 8) + 1) / 2 * 255).long()
    for bits in (2, 3, 4):
        lower = torch.round((dorefa_weight(WEIGHT, bits) + 1) / 2 * (2**bits - 1)).long()
        assert float((lower != original >> (8 - bits)).float().mean()) > 0.1


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_centred_weights_are_the_modified_ones_half_a_step_higher(bits: int) -> None:
    modified, centred = modified_weight(WEIGHT, bits), modified_weight(WEIGHT, bits, centred=True)
    torch.testing.assert_close(centred - modified, torch.full_like(WEIGHT, 2.0**-bits))
    assert len(torch.unique(modified)) <= 2**bits
    assert float(modified.min()) >= -1
    assert float(modified.max()) <= 1 - 2 ** (1 - bits)
    squashed = torch.tanh(WEIGHT) / torch.tanh(WEIGHT).abs().max()
    assert float((centred - squashed).abs().max()) <= 2.0**-bits + 1e-6
    assert float((squashed - modified).min()) >= -1e-6  # always rounded down


@pytest.mark.parametrize("grid", ["dorefa", "modified", "centred"])
def test_scales_of_squashed_weights_and_their_gradient(grid: Any) -> None:
    weight = WEIGHT.clone().requires_grad_(True)
    kept = SquashedWeight(WEIGHT, 3, grid, "norm")(weight)
    torch.testing.assert_close(kept.norm(), WEIGHT.norm())
    sat = SquashedWeight(WEIGHT, 3, grid, "sat")(weight)
    assert float(sat.detach().std(unbiased=False)) == pytest.approx(1 / 30**0.5, rel=1e-4)
    assert len(torch.unique(sat)) <= 8
    (kept.sum() + sat.sum()).backward()
    assert weight.grad is not None
    assert bool(torch.isfinite(weight.grad).all())
    assert bool((weight.grad != 0).all())  # straight through, the top code's values included
    zero = torch.zeros(4, 4, requires_grad=True)
    SquashedWeight(zero.detach(), 2, grid, "none")(zero).sum().backward()
    assert zero.grad is not None
    assert bool(torch.isfinite(zero.grad).all())


@torch.no_grad()
def test_clips_start_where_the_squared_error_is_least_or_where_they_are_told() -> None:
    x = torch.randn(8, 2000, generator=torch.Generator().manual_seed(0))
    for nonnegative, values in ((True, x.relu()), (False, x + 0.5)):
        errors = {}
        for start in ("mse", "quantile"):
            quant = PactActivation(2, nonnegative, 0.999, start=start)  # type: ignore[arg-type]
            quant.begin(values)
            errors[start] = float((quant.quantise(values) - values).detach().square().mean())
        assert errors["mse"] < errors["quantile"]
    told = PactActivation(2, True, 0.999, start=8.0)
    told.begin(x.relu())
    assert float(told.alpha.detach()) == 8


def test_settings_of_the_widths() -> None:
    """At most so many bits, equal ones once; what is not trained goes by the nearest that is not narrower."""
    found = widths_of(W8A8, (2, 8, 4), (7, 3))
    assert found.trained == (Setting(8, 8), Setting(4, 4), Setting(2, 2))
    assert found.zero_shot == (Setting(7, 7), Setting(3, 3))
    assert found.nearest == (0, 1)
    four = widths_of(Setting(4, 8, first_last_bits=6), (8, 6, 4, 2), (7, 5, 3))
    assert four.trained == tuple(Setting(w, a, first_last_bits=6) for w, a in ((4, 8), (4, 6), (4, 4), (2, 2)))
    assert four.zero_shot == tuple(Setting(w, a, first_last_bits=6) for w, a in ((4, 7), (4, 5), (3, 3)))
    assert four.nearest == (0, 1, 2)
    assert widths_of(W8A8, (4,), (8, 4)).zero_shot == (W8A8,)  # none is wide enough: by the widest
    assert widths_of(W8A8, (4,), (8, 4)).nearest == (0,)
    assert narrowed(Setting(32, 8), 4) == Setting(32, 4)
    assert widths_of(Setting(32, 32), (8, 2), (4,)).all == (Setting(32, 32),)


def test_a_policy_is_the_widest_settings_and_cut_at_narrower_ones() -> None:
    """First and last layer keep theirs at every width, and so does what is left in floating point."""
    policy = BitPolicy.of({"stem.0": (7, 8), "conv1": (3, 6), "pointwise": (32, 32), "head": (5, 5)})
    net = adaptive((8, 4, 2), (3,), asked=Setting(4, 4, policy=policy), started=False)
    assert [(s.weight_bits, s.act_bits) for s in net.settings] == [(4, 4), (2, 2), (3, 3)]
    bits = [dict(plan.layers) for plan in net._plans]
    assert [found["stem.0"] for found in bits] == [(7, 8)] * 3
    assert [found["head"] for found in bits] == [(5, 5)] * 3
    assert [found["pointwise"] for found in bits] == [(32, 32)] * 3
    assert [found["conv1"] for found in bits] == [(3, 6), (2, 2), (3, 3)]
    assert [found["conv2"] for found in bits] == [(4, 4), (2, 2), (3, 3)]


def test_what_widths_share_and_what_they_do_not() -> None:
    """One weight a layer; normalisations and clips of each width in memory of their own, tied clips in one."""
    net = adaptive()
    for layer in net.order:
        held = [p for p in net.body.get_submodule(layer).parameters() if p.dim() > 1]
        assert len(held) == 1
        assert held[0] is net.weight(layer)
    for part in net._norms:
        kept = [{t.data_ptr() for t in (*p.parameters(), *p.buffers())} for p in part.parts]
        assert len(kept) == 3
        assert not any(a & b for a, b in itertools.combinations(kept, 2))
    for tied in (False, True):
        quants = [part for part in adaptive(tied=tied).switches if isinstance(part, SwitchedActivation)]
        assert quants
        for quant in quants:
            assert len({id(part.alpha) for part in quant.parts}) == (1 if tied else 3)
            assert len({float(part.units[0] * part.alpha.detach()) for part in quant.parts}) <= (1 if tied else 3)


def test_the_shared_weight_gets_the_sum_of_the_widths_gradients() -> None:
    net, x = adaptive(), image_set().images
    alone = []
    for width in range(3):
        net.switch(width)
        alone.append(torch.autograd.grad(net.student(x)[0].square().sum(), net.weight("conv1"))[0])
    assert not torch.allclose(alone[0], alone[2])
    total: Any = 0.0
    for width in range(3):
        net.switch(width)
        total = total + net.student(x)[0].square().sum()
    total.backward()
    torch.testing.assert_close(net.weight("conv1").grad, sum(alone))


def test_all_gradients_are_finite_at_two_bits() -> None:
    """None is missing but for the clips of a side that has no values."""
    net = adaptive((8, 2))
    net.student.train()
    for width in range(2):
        net.switch(width)
        net.student(image_set().images)[0].square().sum().backward()
    unused = {id(part.beta) for quant in net.activations for part in quant.parts if not part.signed}  # type: ignore
    missing = [name for name, p in net.body.named_parameters() if p.grad is None and id(p) not in unused]
    assert missing == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in net.body.parameters() if p.grad is not None)


def norm_state(net: AdaptiveModel, width: int) -> list[Tensor]:
    return [getattr(part.parts[width], name).clone() for part in net._norms for name in NORMS]


def test_a_pass_at_one_width_leaves_the_statistics_of_the_others() -> None:
    net = adaptive()
    net.student.train()
    before = [norm_state(net, width) for width in range(3)]
    net.switch(2)
    net.student(image_set().images)
    after = [norm_state(net, width) for width in range(3)]
    for width in (0, 1):
        assert all(map(torch.equal, before[width], after[width]))
    assert not any(map(torch.equal, before[2], after[2]))


@pytest.mark.parametrize("counts", [True, False])
def test_swapped_blocks_normalise_by_the_batch_and_keep_their_statistics(counts: bool) -> None:
    net = adaptive()
    net.student.train()
    block = net.blocks.index("conv1+conv2")
    before = [norm_state(net, width) for width in range(3)]
    net.switch(2, {block: 0}, counts=counts)
    net.student(image_set().images)
    for width in (0, 1):
        assert all(map(torch.equal, before[width], norm_state(net, width)))
    moved = [not torch.equal(a, b) for a, b in zip(before[2], norm_state(net, 2), strict=True)]
    inside = [net._home.get(part) == block for part in net._norms for _ in NORMS]
    assert moved == [counts and not there for there in inside]
    assert all(part.part(0).track_running_stats for part in net._norms)


def perturb(net: AdaptiveModel, width: int, inside: bool) -> None:
    """Other scales and shifts of the normalisations at ``width`` inside of the blocks, or outside of them."""
    with torch.no_grad():
        for part in net._norms:
            if (part in net._home) == inside:
                part.part(width).weight.mul_(1.7)
                part.part(width).bias.add_(0.4)


@torch.no_grad()
def answer(net: AdaptiveModel, width: int, swaps: dict[int, int] | None = None) -> Tensor:
    net.switch(width, swaps)
    logits: Tensor = net.student(image_set(seed=1).images)[0]
    return logits


def test_all_blocks_swapped_is_the_teacher_through_all_blocks() -> None:
    """Stem and classifier have the bits of both, and as yet the same normalisation: the answer is the teacher's.  From
    then on nothing of the student counts but what lies outside of the blocks."""
    net = adaptive()
    every = dict.fromkeys(range(len(net.blocks)), 0)
    assert len(every) == 3
    perturb(net, 0, inside=True)
    assert torch.equal(answer(net, 2, every), answer(net, 0))
    assert not torch.allclose(answer(net, 2), answer(net, 0))
    kept = answer(net, 2, every)
    perturb(net, 2, inside=True)
    assert torch.equal(answer(net, 2, every), kept)
    perturb(net, 2, inside=False)
    assert not torch.allclose(answer(net, 2, every), kept)


def test_one_block_swapped_is_between() -> None:
    net = adaptive()
    perturb(net, 0, inside=True)
    found = [answer(net, 2, {block: 0}) for block in range(len(net.blocks))]
    assert not any(torch.allclose(a, b) for a, b in itertools.combinations([*found, answer(net, 2)], 2))
    assert torch.equal(answer(net, 2, {}), answer(net, 2))


def test_a_borrowed_block_can_be_kept_from_learning() -> None:
    net = adaptive()
    every = dict.fromkeys(range(len(net.blocks)), 0)
    net.switch(2, every)
    inside = {id(p) for p in net.inside(every)}
    with without_gradient(net.inside(every)):
        out = net.student(image_set().images)[0]
    out.square().sum().backward()
    layers = {layer for layer in net.order if layer not in ("stem.0", "head")}
    assert {id(net.weight(layer)) for layer in layers} <= inside
    for layer in net.order:
        assert (net.weight(layer).grad is None) == (layer in layers)
    assert all(p.grad is None for p in net.body.parameters() if id(p) in inside)
    assert all(p.requires_grad for p in net.body.parameters())


def test_distance_is_that_of_the_quantised_weights() -> None:
    """First and last layer have the same bits at both widths; a wider gap is a greater distance."""
    net = adaptive((8, 4, 2))
    expected = 0.0
    for layer in ("conv1", "conv2", "depthwise", "pointwise"):
        pair = [modified_weight(net.weight(layer).detach(), bits).double().numpy() for bits in (8, 2)]
        expected += float(((pair[0] - pair[1]) ** 2).sum())
    assert net.distance(0, 2) == pytest.approx(expected**0.5, rel=1e-6)
    assert net.distance(0, 2) == net.distance(2, 0) > net.distance(1, 2) > net.distance(0, 1) > 0
    assert net.distance(1, 1) == 0


def test_calibration_is_the_mean_over_batches_and_changes_no_parameter() -> None:
    net = adaptive((8, 2), (4,))
    net.add_zero_shot()
    parameters = {name: p.detach().clone() for name, p in net.body.named_parameters()}
    trained = [norm_state(net, width) for width in range(2)]
    batches = list(image_set().images.split(24))
    assert net.calibrate(2, batches) == 64
    assert all(torch.equal(p, parameters[name]) for name, p in net.body.named_parameters())
    assert all(all(map(torch.equal, trained[width], norm_state(net, width))) for width in range(2))
    stem: Any = net.body.get_submodule("stem.0")
    norm = net._norms[0].part(2)
    with torch.no_grad():
        made = [nn.functional.conv2d(batch, stem.weight, padding=1).transpose(0, 1).flatten(1) for batch in batches]
    torch.testing.assert_close(norm.running_mean, torch.stack([rows.mean(1) for rows in made]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([rows.var(1) for rows in made]).mean(0))
    assert not any(part.training for part in net.student.modules())
    assert norm.momentum == net._norms[0].part(0).momentum
    net.calibrate(2, reversed(batches))
    torch.testing.assert_close(norm.running_mean, torch.stack([rows.mean(1) for rows in made]).mean(0))


def test_an_untrained_width_has_the_clips_of_the_nearest_and_its_own_bits() -> None:
    net = adaptive((8, 4, 2), (5, 3))
    net.add_zero_shot()
    for quant in net.activations:
        assert isinstance(quant, SwitchedActivation)
        for width, near in ((3, 0), (4, 1)):
            part, other = quant.part(width), quant.part(near)
            assert isinstance(part, PactActivation)
            assert torch.equal(part.alpha, other.alpha)  # type: ignore[arg-type]
            assert part.alpha is not other.alpha
    assert [part.bits for part in net.activations[0].parts] == [8, 4, 2, 5, 3]  # type: ignore[union-attr,attr-defined]


def test_what_is_exported_is_the_network_at_that_width_and_the_rest_stays() -> None:
    net, x = adaptive((8, 4, 2), (3,)), image_set(seed=1).images
    for width, count in enumerate((1, 2, 3)):
        for _ in range(count):
            perturb(net, width, inside=True)
    net.add_zero_shot()
    answers = [answer(net, width) for width in range(4)]
    modules = []
    for width, bits in enumerate((8, 4, 2, 3)):
        one = net.single(width)
        modules.append(one.export())
        assert dict(one.layer_bits())["conv1"] == (bits, bits)
        assert dict(one.layer_bits())["stem.0"] == (8, 8)
        assert one.weight_levels(modules[-1])["conv1"] <= 2**bits
        assert one.activation_levels()["conv1"] == 2**bits
        assert one.protocol("g", "a", "w", "r")["weight_bits"] == bits
    for module, wanted in zip(modules, answers, strict=True):
        with torch.no_grad():
            assert float((module(x) - wanted).norm() / wanted.norm()) < 0.01  # folding may move a value over an edge
        assert not any(isinstance(part, SwitchedNorm | nn.BatchNorm2d) for part in module.modules())
    assert all(torch.equal(answer(net, width), answers[width]) for width in range(4))


def test_without_bits_it_is_the_network_itself() -> None:
    net = adaptive(asked=Setting(32, 32), started=False)
    x = images(size=8)
    assert len(net.settings) == 1
    original = randomise(toy())
    assert torch.equal(net.student(x)[0], original(x))
    assert net.distance(0, 0) == 0


def test_a_network_that_cannot_be_traced_has_no_blocks() -> None:
    widths = widths_of(W8A8, (8, 2), (4,))
    net = AdaptiveModel(Untraceable(), images(), widths, makers())
    net.begin(images())
    net.add_zero_shot()
    assert net.reason
    assert net.blocks == ()
    assert net.calibrate(2, [images()]) == 4
    made = [net.single(width).export()(images()).detach() for width in range(3)]
    assert not any(torch.allclose(a, b) for a, b in itertools.combinations(made, 2))
