"""The contract of a compressor, as checks that take any compressor; found breaches are AssertionErrors.

``CHECKS`` run over every registered compressor (test_compressors.py), and over compressors that break one rule each
(test_breaches.py), so that each check is seen to fail.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.access import DataAccess
from bench.errors import NotApplicable
from bench.interfaces import (
    FLOAT_BITS,
    BlockwiseCompressor,
    Compressed,
    Compressor,
    ImageSet,
    ModelHandle,
    RunContext,
    Setting,
    Variant,
)
from bench.measure.complexity import complexity, layer_table
from bench.spec import axes
from bench.spec.registry import resolve_params
from tests.compressors.recon_toys import Residual
from tests.contracts import kit
from tests.contracts.toys import SPEC, Prism, Stream, Weightless, context, images, teacher, value_of
from tests.contracts.world import reseeded, sealed
from tests.quant.nets import randomise


@dataclass(frozen=True)
class Made:
    """What came of a compression; ``drew`` whether the generator was drawn from, ``reads`` what was read or tried."""

    compressed: Compressed
    reads: list[dict[str, Any]]
    drew: bool

    def bits(self) -> list[dict[str, Any]]:
        """Every variant, for comparison bit for bit; the report may hold times, so it is not in it."""
        return [
            {name: kit.bits_of(_told(name, value)) for name, value in vars(variant).items()}
            for variant in self.compressed.variants
        ]


def _told(name: str, value: Any) -> Any:
    """What a variant's callables and its inspection answer, which are other objects in every compression."""
    if value is None:
        return None
    if name == "inspection":
        return {layer: (value.bits(layer), value.weight(layer), value.grids(layer)) for layer in value.layers}
    if name == "image_bitops":
        return value(images().images)
    if name == "integers":
        try:
            found = value()
        except NotApplicable as none:
            return str(none)
        return {
            "module": found.module,
            "points": dict(found.points),
            "grids": [vars(g) for g in found.weights.values()],
        }
    return value


class CompressorCase(kit.Case):
    """A compressor and how to ask it."""

    def setting(self) -> Setting:
        """A value on each of its axes."""
        values: dict[str, Any] = {}
        for name in sorted(self.method.accepts):
            values |= value_of(axes.axis(name))
        return Setting(**values)

    def make(
        self,
        model: ModelHandle | None = None,
        given: ImageSet | None = None,
        *,
        seed: int = 3,
        taught: ModelHandle | None = None,
    ) -> Made:
        """One compression, by a teacher where one is given."""
        with tempfile.TemporaryDirectory() as scratch:
            ctx = replace(context(seed, scratch), teacher=taught)
            return self.run(ctx, model or teacher(), given or images())

    def run(self, ctx: RunContext, model: ModelHandle, given: ImageSet) -> Made:
        """As the engine asks: ``check`` first."""
        before = ctx.generator.get_state()
        self.method.check(self.params, model)
        made = self.method.compress(model, given, self.setting(), self.params, ctx)
        assert isinstance(ctx.data, DataAccess)
        return Made(made, ctx.data.audit, not torch.equal(before, ctx.generator.get_state()))


def declares_what_the_plan_reads(case: CompressorCase) -> None:
    """The Protocol's attributes, presets within Params, axes that exist."""
    kit.check_declaration(case.method, Compressor)
    kit.check_options(case.method, "compressor")
    assert case.method.accepts
    assert case.method.accepts <= set(axes.axis_names())
    assert case.method.deliveries
    assert hasattr(case.method, "units") == ("units" in case.method.offers), "units: there and offered, or neither"


def delivers_every_planned_variant(case: CompressorCase) -> None:
    """Exactly the settings that it promised without a look at any network, each once."""
    for preset in kit.PRESETS:
        params = resolve_params(case.method, preset, {})
        promised = case.method.variants(params, case.setting())
        assert promised == case.method.variants(params, case.setting()), "promises differ"
        assert promised
        assert len(set(promised)) == len(promised), "one setting is promised twice"
    made = Counter(variant.setting for variant in case.make().compressed.variants)
    assert made == Counter(case.method.variants(case.params, case.setting())), "not what was promised"


def makes_sound_networks(case: CompressorCase) -> None:
    """Finite logits of other images and of one; eval mode; protocol and report are JSON; the cost is a number."""
    made = case.make().compressed
    for variant in made.variants:
        check_network(variant)
        assert variant.protocol, "a protocol says what is measured"
        kit.check_json(dict(variant.protocol), "protocol")
        assert variant.scales >= 0
        assert variant.zero_points >= 0
        assert variant.bitops is None or (math.isfinite(variant.bitops) and variant.bitops > 0)
    kit.check_json(dict(made.report), "report")
    assert math.isfinite(made.forward_equivalents)
    assert made.forward_equivalents >= 0


@torch.no_grad()
def check_network(variant: Variant) -> None:
    """It answers other images than it was made with, one at a time as well, and the same each time."""
    assert not any(part.training for part in variant.module.modules()), "the network is in training mode"
    assert not any(p.requires_grad for p in variant.module.parameters()), "the network still wants gradients"
    for count in (5, 1):
        data = images(count, seed=9).images
        logits = variant.module(data)
        assert logits.shape == (count, SPEC.classes)
        assert bool(torch.isfinite(logits).all()), "logits are not finite"
        assert torch.equal(variant.module(data), logits), "the network answers differently each time"


def names_layers_that_exist(case: CompressorCase) -> None:
    """What the engine measures by: bits of every weighted layer where bits are asked for, zeros as they are."""
    model = teacher()
    for variant in case.make(model).compressed.variants:
        network = variant.network or model.module
        weighted = {name for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
        assert set(variant.layer_bits) <= weighted, "bits of a layer that does not exist"
        counted = {*variant.nonzero, *variant.weight_levels, *variant.activation_levels}
        assert counted <= weighted, "a count of a layer that does not exist"
        if "bits" in case.method.accepts:
            assert set(variant.layer_bits) == weighted, "bits of some layers are not said"
        else:
            assert all(bits == (FLOAT_BITS, FLOAT_BITS) for bits in variant.layer_bits.values())
        for pair in variant.layer_bits.values():
            assert all(2 <= bits <= 8 or bits == FLOAT_BITS for bits in pair), f"{pair} are no bits"
        size = complexity(model.module, SPEC.shape, variant)
        assert all(math.isfinite(value) for value in size.values())
        kit.check_json(layer_table(network, SPEC.shape, variant), "the table of layers")
        if case.method.makes_zeros:
            assert variant.nonzero, "zeros are made and not counted"


def leaves_its_inputs_as_they_were(case: CompressorCase) -> None:
    """The given network and images; and the answer shares no weight with the network."""
    model, given = teacher(), images()
    before, pixels = kit.state(model.module), kit.checksum(given.images)
    made = case.make(model, given)
    assert kit.state(model.module) == before, "the given network was changed"
    assert kit.checksum(given.images) == pixels, "the given images were changed"
    for variant in made.compressed.variants:
        for value in [*variant.module.parameters(), *variant.module.buffers()]:
            value.detach().mul_(0) if value.is_floating_point() else None
    assert kit.state(model.module) == before, "the answer shares weights with the given network"


def same_seed_same_bits(case: CompressorCase) -> None:
    """A function of its inputs and the generator."""
    first, again, other = (case.make(seed=seed) for seed in (3, 3, 4))
    assert first.bits() == again.bits(), "the same seed made another network"
    if not first.drew:
        assert first.bits() == other.bits(), "random numbers come from somewhere else than the generator"


def keeps_out_of_the_world(case: CompressorCase) -> None:
    """No global state is read or written, no file but in scratch, nothing printed, no data read."""
    found = []
    for seed in (1, 2):
        with reseeded(seed), tempfile.TemporaryDirectory() as scratch:
            ctx, model, given = context(3, scratch), teacher(), images()
            with sealed(Path(scratch)):
                made = case.run(ctx, model, given)
            assert not made.reads, "a compressor reads no data"
            found.append(made.bits())
    assert found[0] == found[1], "the global random state matters"


def says_when_a_network_does_not_serve(case: CompressorCase) -> None:
    """A network without weighted layers: not applicable, or it works."""
    model = kit.frozen(Weightless(), "toy/weightless", SPEC)
    if not kit.serves(case.method, case.params, model):
        return
    for variant in case.make(model).compressed.variants:
        check_network(variant)


def takes_what_it_says_it_takes(case: CompressorCase) -> None:
    """A stream where it says so: its batches are used, and the answer is as sound and as determined."""
    if "stream" not in case.method.deliveries:
        return
    found = []
    for _ in range(2):
        stream, none = Stream(), torch.empty(0, *SPEC.shape)
        made = case.make(given=replace(images(), images=none, label_kind="pseudo", stream=stream))
        assert stream.made, "the stream was not asked for anything"
        for variant in made.compressed.variants:
            check_network(variant)
        found.append(made.bits())
    assert found[0] == found[1], "the same stream made another network"


def keeps_zeros_where_it_says_so(case: CompressorCase) -> None:
    """Scattered zeros of an inner and of the last layer: what they cut off stays cut off, whatever goes in.

    Looked at from outside, because only the network's author knows where its weights lie: see ``Prism``.
    """
    if not case.method.keeps_zeros:
        return
    net = randomise(kit.built(Prism, 0))
    assert isinstance(net, Prism)
    spec = replace(SPEC, classes=Prism.WIDTH, shape=(Prism.WIDTH, 8, 8), mean=(0.0,) * 5, std=(1.0,) * 5)
    given = torch.randn(16, *spec.shape, generator=torch.Generator().manual_seed(2))
    made = case.make(kit.frozen(net, "toy/prism", spec), replace(images(), images=given))
    for variant in made.compressed.variants:
        seen = influence(variant.module, given[:4])
        assert not bool((seen & ~net.mask).any()), "a zeroed weight came back"
        assert bool(seen.any())


@torch.no_grad()
def influence(module: nn.Module, x: Tensor) -> Tensor:
    """[outputs, channels]: whether a logit changes when all of a channel of the images does."""
    plain = module(x)
    columns = []
    for channel in range(x.shape[1]):
        changed = x.clone()
        changed[:, channel] = -2 * changed[:, channel] + 1
        columns.append((module(changed) != plain).any(0))
    return torch.stack(columns, 1)


def leaves_a_network_that_others_can_take(case: CompressorCase) -> None:
    """Without bits the answer is a plain network: it can be copied, stored by name, and compressed again."""
    if "bits" in case.method.accepts:
        return
    for variant in case.make().compressed.variants:
        module = copy.deepcopy(variant.module)
        assert all(value.dtype == torch.float32 for value in module.parameters())
        module.load_state_dict(variant.module.state_dict())
        assert kit.serves(case.method, case.params, kit.frozen(module, "toy/again", SPEC))
        check_network(replace(variant, module=module))


def splits_networks_where_it_says_so(case: CompressorCase) -> None:
    """Blocks in order of execution, each weighted layer in one of them; the network stays."""
    if "units" not in case.method.offers:
        return
    kit.check_declaration(case.method, BlockwiseCompressor)
    model = teacher()
    before = kit.state(model.module)
    units = case.method.units(model.module, images(2).images)
    assert kit.state(model.module) == before, "the given network was changed"
    layers = [layer for _, _, inside in units for layer in inside]
    weighted = {name for name, part in model.module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    assert len(layers) == len(set(layers)), "a layer lies in two blocks"
    assert set(layers) == weighted, "a layer lies in no block"
    kit.check_json(units, "units")


def learns_from_a_teacher_where_it_says_so(case: CompressorCase) -> None:
    """Another network's answers make another student, the same each time, and that network stays as it was.

    The teacher has the target's shape and other weights, constants and multiply-accumulates.
    """
    if "teacher" not in case.method.offers:
        return
    net = kit.frozen(randomise(kit.built(lambda: Residual(4), 1), seed=1), "toy/other", SPEC)
    other = replace(net, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), macs=3 * net.macs)
    before = kit.state(other.module)
    plain, first, again = case.make(), case.make(taught=other), case.make(taught=other)
    assert kit.state(other.module) == before, "the teacher was changed"
    assert first.bits() == again.bits(), "the same teacher made another network"
    assert first.bits() != plain.bits(), "the teacher is not asked"
    assert first.compressed.forward_equivalents > plain.compressed.forward_equivalents, "its passes are not counted"
    for variant in first.compressed.variants:
        check_network(variant)
        for value in [*variant.module.parameters(), *variant.module.buffers()]:
            value.detach().mul_(0) if value.is_floating_point() else None
    assert kit.state(other.module) == before, "the answer shares weights with the teacher"


CHECKS: tuple[Callable[[CompressorCase], None], ...] = (
    declares_what_the_plan_reads,
    delivers_every_planned_variant,
    makes_sound_networks,
    names_layers_that_exist,
    leaves_its_inputs_as_they_were,
    same_seed_same_bits,
    keeps_out_of_the_world,
    says_when_a_network_does_not_serve,
    takes_what_it_says_it_takes,
    keeps_zeros_where_it_says_so,
    leaves_a_network_that_others_can_take,
    splits_networks_where_it_says_so,
    learns_from_a_teacher_where_it_says_so,
)
