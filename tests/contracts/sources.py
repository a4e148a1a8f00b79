"""The contract of a data source, as checks that take any source; found breaches are AssertionErrors.

``CHECKS`` run over every registered source (test_sources.py), and over sources that break one rule each
(test_breaches.py), so that each check is seen to fail.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.access import DataAccess
from bench.errors import AccessDenied
from bench.interfaces import (
    TIERS,
    AssistingSource,
    Batch,
    DatasetSpec,
    DataSource,
    ImageBatch,
    ModelHandle,
    RunContext,
    StreamingSource,
    SynthRequest,
    Tier,
)
from bench.spec.registry import resolve_params
from tests.contracts import kit
from tests.contracts.filters import COUNT, filters_change_what_they_are_given, given_batch
from tests.contracts.world import reseeded, sealed
from tests.sources.toy import COLOUR, GREY, NoNorm, ToyNet, ToyTransformer, randomised

MODELS = {"none": 0, "one": 1, "zoo": 3, "one+zoo": 3}
"""How many networks a source is given."""
OTHER = replace(GREY, name="other", classes=2)


def networks(count: int, dataset: DatasetSpec = GREY, *, attention: bool = False) -> tuple[ModelHandle, ...]:
    """Small convolutional networks with batch norms, or transformers."""
    kind: Any = ToyTransformer if attention else ToyNet
    made = (kit.built(lambda i=i: kind(6 + 2 * i, dataset.shape[0]), i) for i in range(count))  # type: ignore[misc]
    return tuple(kit.frozen(randomised(net, i), f"toy{i}", dataset) for i, net in enumerate(made))


@dataclass(frozen=True)
class Made:
    """A batch, what was read for it, and whether the generator was drawn from."""

    batch: ImageBatch
    reads: list[dict[str, Any]]
    drew: bool

    def bits(self) -> dict[str, Any]:
        """Everything of the batch, for comparison bit for bit."""
        parts = {name: kit.bits_of(value) for name, value in vars(self.batch).items()}
        return parts | {"info": dict(self.batch.info)}


class Source(kit.Case):
    """A source and how to ask it."""

    def models(self, dataset: DatasetSpec = GREY) -> tuple[ModelHandle, ...]:
        """As many as it looks at."""
        return networks(MODELS[self.method.models], dataset, attention="attention" in self.method.needs)

    def request(self, *, index: int = 0, dataset: DatasetSpec = GREY, set_seed: int = 77, **more: Any) -> SynthRequest:
        """A small one; ``models``, ``student`` and what a filter is ``given`` may be given."""
        more.setdefault("models", self.models(dataset))
        size = self.method.batch_size(self.params)
        if "filter" in self.method.offers:
            size = COUNT
            more.setdefault("given", given_batch(index, dataset, self.method.label_kind))
        return SynthRequest(
            dataset=dataset, params=self.params, batch_index=index, batch_size=size, set_seed=set_seed, **more
        )

    def context(self, seed: int, scratch: str, tier: Tier | None = None, dataset: DatasetSpec = GREY) -> RunContext:
        """As the engine makes one."""
        other = kit.toy_data(replace(OTHER, shape=dataset.shape), 1)
        access = DataAccess(kit.toy_data(dataset), tier or self.method.access, other)
        generator = torch.Generator().manual_seed(seed)
        return RunContext(
            torch.device("cpu"), torch.float32, generator, access, Path(scratch), logging.getLogger("contract")
        )

    def make(self, request: SynthRequest | None = None, *, seed: int = 3, tier: Tier | None = None) -> Made:
        """One batch, in a world that must stay as it is."""
        request = request or self.request()
        with tempfile.TemporaryDirectory() as scratch:
            ctx = self.context(seed, scratch, tier, request.dataset)
            before = ctx.generator.get_state()
            batch = self.method.synthesize_batch(request, ctx)
            assert isinstance(ctx.data, DataAccess)
            return Made(batch, ctx.data.audit, not torch.equal(before, ctx.generator.get_state()))


def declares_what_the_plan_reads(case: Source) -> None:
    """The Protocol's attributes, presets within Params, a tier that fits what it looks at."""
    method = case.method
    kit.check_declaration(method, DataSource)
    kit.check_options(method, "source")
    for offer, protocol in (("stream", StreamingSource), ("hook", AssistingSource)):
        assert hasattr(method, offer) == (offer in method.offers), f"{offer}: there and offered, or neither"
        if offer in method.offers:
            kit.check_declaration(method, protocol)
    for preset in kit.PRESETS:
        size = method.batch_size(resolve_params(method, preset, {}))
        assert isinstance(size, int)
        assert size >= 1
    least = {"none": "T0", "one": "T2a", "zoo": "T2b", "one+zoo": "T2b"}[method.models]
    assert TIERS.index(method.access) >= TIERS.index(least), f"{method.models} networks are {least}, not below"
    assert (method.control == "upper") <= (TIERS.index(method.access) >= TIERS.index("T4")), "the upper control is real"


def makes_sound_batches(case: Source) -> None:
    """Shape, dtype, labels as declared, JSON, costs; grey and colour, one network and several."""
    requests = [case.request(), case.request(dataset=COLOUR, index=1)]
    if case.method.models == "one+zoo":
        requests.append(case.request(models=networks(1)))
    for request in requests:
        case.method.check(request.params, request.models)
        batch = case.make(request).batch
        check_images(batch, request.batch_size, request.dataset, case.method.label_kind)
        kit.check_json(dict(batch.info), "info")
        assert math.isfinite(batch.forward_equivalents)
        assert batch.forward_equivalents >= 0
        if request.models:
            assert batch.forward_equivalents > 0, "networks were looked at for nothing"


def check_images(batch: ImageBatch, count: int, dataset: DatasetSpec, label_kind: str) -> None:
    """Images, labels and soft labels of a batch are what their kind promises."""
    images, labels, soft = batch.images, batch.labels, batch.soft_labels
    assert images.shape == (count, *dataset.shape)
    assert images.dtype == torch.float32
    assert bool(torch.isfinite(images).all()), "images are not finite"
    assert not images.requires_grad
    assert (labels is not None) == (label_kind != "none"), f"labels of kind {label_kind}"
    if labels is not None:
        assert labels.shape == (count,)
        assert labels.dtype == torch.int64
        assert bool(((labels >= 0) & (labels < dataset.classes)).all()), "a label is no class"
    if soft is not None:
        assert soft.shape == (count, dataset.classes)
        assert not soft.requires_grad
        assert bool((soft >= 0).all())
        torch.testing.assert_close(soft.sum(1), torch.ones(count))


def leaves_networks_as_they_were(case: Source) -> None:
    """Weights, buffers, modes, gradients and hooks of models and student."""
    models, (student,) = case.models(), networks(1)
    before = [kit.state(handle.module) for handle in (*models, student)]
    case.make(case.request(models=models, student=student))
    assert [kit.state(handle.module) for handle in (*models, student)] == before, "a network was changed"


def same_seed_same_bits(case: Source) -> None:
    """A function of request and generator; whoever draws shows it."""
    first, again, other = (case.make(seed=seed) for seed in (3, 3, 4))
    assert first.bits() == again.bits(), "the same seed made another batch"
    if first.drew:
        assert kit.checksum(first.batch.images) != kit.checksum(other.batch.images), "it draws and does not show it"
    else:
        assert first.bits() == other.bits(), "random numbers come from somewhere else than the generator"


def keeps_out_of_the_world(case: Source) -> None:
    """No global state is read or written, no file but in scratch, nothing printed."""
    found = []
    for seed in (1, 2):
        with reseeded(seed), tempfile.TemporaryDirectory() as scratch:
            ctx, request = case.context(3, scratch), case.request()
            with sealed(Path(scratch)):
                batch = case.method.synthesize_batch(request, ctx)
            found.append(Made(batch, [], True).bits())
    assert found[0] == found[1], "the global random state matters"


def keeps_its_tier(case: Source) -> None:
    """It reads what its tier allows and nothing beyond; it needs the tier it declares."""
    access = case.method.access
    reads = case.make().reads
    assert not [read for read in reads if read["denied"]], "a read beyond the tier was tried"
    if TIERS.index(access) < TIERS.index("T3"):
        assert not reads
        return
    assert reads, f"{access} is declared and nothing is read"
    try:
        case.make(tier=TIERS[TIERS.index(access) - 1])
    except AccessDenied:
        return
    raise AssertionError(f"a tier below {access} serves as well, or its refusal was swallowed")


def batches_stand_alone(case: Source) -> None:
    """Batch k is the same whether or not others were made before it, and the object keeps nothing."""
    late = case.request(index=2)
    alone = case.make(late, seed=9).bits()
    kept = {key: repr(value) for key, value in vars(case.method).items()}
    for index in range(2):
        case.make(case.request(index=index), seed=index)
    assert case.make(late, seed=9).bits() == alone, "a batch depends on those made before"
    assert {key: repr(value) for key, value in vars(case.method).items()} == kept, "the source keeps something"
    first = case.make(seed=0).batch.images
    assert kit.checksum(first) != alone["images"], "every batch of a set is the same"


def says_when_networks_do_not_serve(case: Source) -> None:
    """Without batch norms: not applicable where they are needed, else it works or says why not."""
    method = case.method
    if not case.models():
        return
    nets = (kit.built(NoNorm, i) for i in range(len(case.models())))
    bare = tuple(kit.frozen(net, f"bare{i}", GREY) for i, net in enumerate(nets))
    if kit.serves(method, case.params, bare):
        missing = {"bn", "attention"} & method.needs
        assert not missing, f"needs {', '.join(missing)}, and takes networks without"
        made = case.make(case.request(models=bare))
        check_images(made.batch, method.batch_size(case.params), GREY, method.label_kind)
    assert not kit.serves(method, case.params, ()), "no network at all is taken for one"


def streams_are_deterministic(case: Source) -> None:
    """In lock-step with a student: the same batches again, sound ones, networks and world as they were."""
    if "stream" not in case.method.offers:
        return
    found = []
    for seed in (1, 2):
        models = case.models()
        before = [kit.state(handle.module) for handle in models]
        with reseeded(seed), tempfile.TemporaryDirectory() as scratch:
            ctx, request = case.context(5, scratch), case.request(models=models)
            with sealed(Path(scratch)):
                stream = case.method.stream(request, ctx)
                batches = [stream.next_batch() for _ in range(3)]
        assert [kit.state(handle.module) for handle in models] == before, "a network was changed"
        assert stream.label_kind == case.method.label_kind
        for batch in batches:
            check_images(batch, stream.batch_size, GREY, stream.label_kind)
        assert 0 < sum(batch.forward_equivalents for batch in batches) <= stream.forward_equivalents < math.inf
        kit.check_json(stream.info(), "the stream's info")
        found.append([Made(batch, [], True).bits() for batch in batches] + [dict(stream.info())])
    assert found[0] == found[1], "the same stream gave other batches"
    assert found[0][0] != found[0][1], "the stream stands still"


def hooks_leave_gradients_alone(case: Source) -> None:
    """A batch comes back, from the given generator alone; student, its gradients and the given batch stay."""
    if "hook" not in case.method.offers:
        return
    found = []
    for seed in (1, 2):
        student = networks(1)[0].module.requires_grad_(True)
        given, hook = _batch(student), case.method.hook(case.params)
        for parameter in student.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        before, held = kit.state(student), {k: kit.bits_of(v) for k, v in vars(given).items()}
        generator, made = torch.Generator().manual_seed(4), []
        with reseeded(seed), tempfile.TemporaryDirectory() as scratch, sealed(Path(scratch)):
            for step in range(4):
                made.append(hook(given, step, 4, Asked(student), generator))
        assert kit.state(student) == before, "the student or its gradients were changed"
        assert {k: kit.bits_of(v) for k, v in vars(given).items()} == held, "the given batch was changed"
        for batch in made:
            assert batch.images.shape[1:] == given.images.shape[1:]
            assert bool(torch.isfinite(batch.images).all())
            assert not batch.images.requires_grad
            assert (batch.labels is None) or len(batch.labels) == len(batch.images)
        found.append([{k: kit.bits_of(v) for k, v in vars(batch).items()} for batch in made])
    assert found[0] == found[1], "the same hook gave another batch"


@dataclass(frozen=True)
class Asked:
    """What a hook may ask of a training: a loss of the student, and what another network says."""

    student: nn.Module

    def __call__(self, images: Tensor, /) -> Tensor:
        found: Tensor = self.student(images).square().mean()
        return found

    @torch.no_grad()
    def teacher(self, images: Tensor) -> Tensor:
        """The student's own answers will do, detached."""
        found: Tensor = self.student(images)
        return found


def _batch(student: nn.Module) -> Batch:
    images = torch.randn(6, *GREY.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = student(images)
    return Batch(images, logits.argmax(1), F.softmax(logits, 1))


CHECKS: tuple[Callable[[Source], None], ...] = (
    declares_what_the_plan_reads,
    makes_sound_batches,
    leaves_networks_as_they_were,
    same_seed_same_bits,
    keeps_out_of_the_world,
    keeps_its_tier,
    batches_stand_alone,
    says_when_networks_do_not_serve,
    streams_are_deterministic,
    hooks_leave_gradients_alone,
    filters_change_what_they_are_given,
)
