"""DDPQ: similar classes, shares of controlled difficulty, images for them, and the mixup of easy ones
(docs/methods/sources.md#ddpq, #invariant-12)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.errors import NotApplicable
from bench.interfaces import Batch, ImageBatch, ModelHandle
from methods.compressors._distillation import Losses
from methods.compressors._training import Optimiser, Schedule, shuffled, train
from methods.sources._ddpq_labels import Law, entropy, groups, read, similarity, with_entropy
from methods.sources._generators import Body, Codes, ImageGenerator
from methods.sources._losses import mse_var
from methods.sources._objectives import Network
from methods.sources.ddpq import METHOD, DdpqParams, Mixup, mixed
from tests.sources.toy import CLASSES, GREY, context, fingerprint, request, trained

SHORT: dict[str, Any] = {"iterations": 2, "batch": 8, "width": 8, "latent": 6, "images": 24}
PIXELS: dict[str, Any] = {"backend": "direct", "pixel_iterations": 2, "pixel_batch": 12}
LAWS = ("uniform", "softmax", "entropy")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ROWS = torch.randn(10, 12, generator=seeded(7))


def law(seed: int = 0, **params: object) -> Law:
    values = DdpqParams.model_validate({"batch": 64, **params})
    return Law(values, similarity(ROWS), 6, seeded(seed))


def soft(codes: Codes) -> Tensor:
    return codes.soft(10)


# --- similar classes ---


def test_similarity_is_the_cosine_symmetric_with_a_unit_diagonal() -> None:
    alike = similarity(ROWS)
    assert torch.equal(alike, alike.T)
    assert torch.equal(alike.diagonal(), torch.ones(10, dtype=torch.float64))
    expected = F.cosine_similarity(ROWS[:, None].double(), ROWS[None].double(), dim=2)
    torch.testing.assert_close(alike, expected)
    torch.testing.assert_close(similarity(ROWS * torch.arange(1, 11)[:, None]), alike)  # lengths do not count
    torch.testing.assert_close(similarity(ROWS, "dot"), ROWS.double() @ ROWS.double().T)


def test_a_group_is_the_class_and_those_most_like_it() -> None:
    alike = similarity(ROWS)
    for size in (1, 2, 5, 10):
        found = groups(alike, size)
        assert found.shape == (10, size)
        for anchor in range(10):
            others = sorted((c for c in range(10) if c != anchor), key=lambda c: -float(alike[anchor, c]))
            assert found[anchor].tolist() == [anchor, *others[: size - 1]]
    long = torch.tensor([[1.0, 0.0], [9.0, 1.0], [0.0, 1.0]])  # by the dot product, 0 is more like 1 than like itself
    assert groups(similarity(long, "dot"), 2)[0].tolist() == [0, 1]
    with pytest.raises(NotApplicable, match="than there are classes"):
        groups(alike, 11)


# --- labels ---


@pytest.mark.parametrize("which", ["similar", "random"])
@pytest.mark.parametrize("shares", LAWS)
@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_labels_are_shares_of_the_group_and_largest_at_the_anchor(size: int, shares: str, which: str) -> None:
    drawn = law(similar=size, law=shares, groups=which)
    anchors = torch.arange(200) % 10
    codes = drawn.draw(anchors)
    q = soft(codes)
    assert codes.classes is not None
    assert codes.shares is not None
    assert bool((q >= 0).all())
    torch.testing.assert_close(q.sum(1), torch.ones(200), atol=1e-6, rtol=0)
    assert int((q > 0).sum(1).max()) <= size
    assert torch.equal(q.argmax(1), anchors)
    assert torch.equal(codes.labels(10), anchors)
    assert all(len(set(row)) == size for row in codes.classes.tolist())
    assert bool((codes.shares.diff(dim=1) <= 0).all())  # the likest class has the largest share behind the anchor's
    if size == 1:
        assert torch.equal(q, F.one_hot(anchors, 10).float())
    if which == "similar":
        assert torch.equal(codes.classes, drawn.groups[anchors])
    elif 1 < size < 10:
        assert not torch.equal(codes.classes[:10], codes.classes[10:20])  # drawn anew for each image


def test_equal_shares_leave_the_anchor_the_largest() -> None:
    codes = law(similar=3, law="softmax", temperature=1e12).draw(torch.arange(100) % 10)
    assert codes.shares is not None
    assert torch.equal(codes.shares[:, 1], codes.shares[:, 2])
    assert torch.equal(soft(codes).argmax(1), torch.arange(100) % 10)


@pytest.mark.parametrize(("size", "first"), [(2, 3 / 4), (3, 11 / 18)])
def test_the_uniform_law_is_uniform_over_falling_shares(size: int, first: float) -> None:
    """The largest of n parts of a stick that is broken at random is (1 + 1/2 + ... + 1/n) / n on average."""
    codes = law(similar=size).draw(torch.zeros(20_000, dtype=torch.int64))
    assert codes.shares is not None
    largest = codes.shares[:, 0]
    assert float(largest.mean()) == pytest.approx(first, abs=0.01)
    if size == 2:  # r ~ U(1/2, 1)
        counts = torch.histc(largest, 5, 0.5, 1.0) / 20_000
        assert float((counts - 0.2).abs().max()) < 0.02


@pytest.mark.parametrize("size", [2, 5, 10])
def test_an_entropy_that_is_asked_for_is_met(size: int) -> None:
    logits = torch.randn(500, size, generator=seeded(), dtype=torch.float64)
    wanted = torch.rand(500, generator=seeded(1), dtype=torch.float64) * math.log(size)
    found = with_entropy(logits, wanted)
    torch.testing.assert_close(entropy(found), wanted, atol=1e-3, rtol=0)
    assert torch.equal(found.argmax(1), logits.argmax(1))
    expected = torch.distributions.Categorical(probs=found).entropy()
    torch.testing.assert_close(entropy(found), expected, atol=1e-6, rtol=0)
    shares = law(similar=size, law="entropy").draw(torch.zeros(4000, dtype=torch.int64)).shares
    assert shares is not None
    difficulty = entropy(shares.double()) / math.log(size)
    counts = torch.histc(difficulty, 4, 0.0, 1.0) / 4000
    assert float((counts - 0.25).abs().max()) < 0.03


@pytest.mark.parametrize("shares", LAWS)
def test_rows_of_an_ablation_start_alike(shares: str) -> None:
    """The number of similar classes, and which they are, moves neither anchors nor latents of any batch."""
    drawn = [law(3, law=shares, similar=size, groups=which) for size in (1, 2, 5) for which in ("similar", "random")]
    for _ in range(2):
        codes = [each.draw() for each in drawn]
        for other in codes[1:]:
            assert torch.equal(codes[0].z, other.z)
            assert torch.equal(codes[0].labels(10), other.labels(10))
        for similar, random in zip(codes[::2], codes[1::2], strict=True):
            assert similar.shares is not None
            assert random.shares is not None
            assert torch.equal(similar.shares, random.shares)  # the control has the same difficulty


def test_similar_classes_are_more_plausible_than_random_ones() -> None:
    alike = similarity(ROWS)
    found = {}
    for which in ("similar", "random"):
        anchors = torch.arange(400) % 10
        codes = law(similar=3, groups=which).draw(anchors)
        found[which] = read(soft(codes), anchors, torch.zeros(400, 10), alike)
    assert found["similar"]["plausibility"] > found["random"]["plausibility"] + 0.2
    assert found["similar"]["difficulty"]["label"] == pytest.approx(found["random"]["difficulty"]["label"])


def test_what_is_recorded_by_hand() -> None:
    alike = torch.tensor([[1.0, 0.5, -0.2], [0.5, 1.0, 0.1], [-0.2, 0.1, 1.0]], dtype=torch.float64)
    q = torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0]])
    answers = torch.tensor([[0.2, 0.7, 0.1], [0.8, 0.1, 0.1], [0.01, 0.01, 0.98]])
    found = read(q, torch.tensor([0, 1, 2]), answers.log(), alike)
    labels = [-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)), -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)), 0.0]
    assert found["difficulty"]["label"] == pytest.approx([value / math.log(3) for value in labels], abs=1e-6)
    achieved = [-float((row * row.log()).sum()) / math.log(3) for row in answers]
    assert found["difficulty"]["achieved"] == pytest.approx(achieved, abs=1e-6)
    assert found["difficulty"]["rank_correlation"] == pytest.approx(1.0)
    assert found["plausibility"] == pytest.approx((0.4 * 0.5 + 0.1 * 0.1) / 0.5)
    assert found["group_top1"] == pytest.approx(100 * 2 / 3)
    hard = read(torch.eye(3), torch.arange(3), answers.log(), alike)
    assert hard["plausibility"] is None
    assert hard["difficulty"]["rank_correlation"] is None


# --- images ---


@pytest.mark.parametrize("entry", ["superposed", "product"])
def test_what_enters_the_generator_is_the_weighted_sum_over_the_group(entry: Any) -> None:
    table = torch.randn(10, 6, generator=seeded(1))
    generator = ImageGenerator(Body(6, GREY.shape, 8, 0.8, seeded()), entry, table)

    def slot(number: int, z: Tensor) -> Tensor:
        if entry == "product":
            return table[number] * z
        found = table[number] + z
        return (found - found.mean()) / (found.var(unbiased=False) + 1e-5).sqrt()

    for size in (1, 3):
        codes = law(similar=size).draw(torch.arange(12) % 10)
        assert codes.shares is not None
        assert codes.classes is not None
        for image, latent in enumerate(generator.latent(codes).detach()):
            pairs = zip(codes.shares[image], codes.classes[image].tolist(), strict=True)
            parts = [share * slot(number, codes.z[image, 0]) for share, number in pairs]
            torch.testing.assert_close(latent, torch.stack(parts).sum(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("condition", ["latent", "norms"])
def test_the_loss_is_soft_cross_entropy_and_statistics(zoo: tuple[ModelHandle, ...], condition: str) -> None:
    asked = request(METHOD, zoo[:1], **SHORT, condition=condition, similar=3)
    trainer = METHOD.build(asked, context(), asked.params)
    codes = trainer.objective.draw()
    images = trainer.generator(codes)
    leaf = images.detach().requires_grad_()
    found, _ = trainer.objective.backward(leaf, codes, True)
    logits, stats = Network(zoo[0], GREY, context())(leaf.detach())
    assert stats is not None
    ce = -(codes.soft(CLASSES) * F.log_softmax(logits, 1)).sum(1).mean()
    torch.testing.assert_close(found["loss"], ce + 0.1 * mse_var(stats), rtol=1e-4, atol=1e-5)
    images.backward(leaf.grad)
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in trainer.generator.parameters())


def made(zoo: tuple[ModelHandle, ...], index: int = 0, **params: Any) -> ImageBatch:
    return METHOD.synthesize_batch(request(METHOD, zoo[:1], index, **params), context())


@pytest.mark.parametrize("params", [SHORT, PIXELS], ids=["generator", "direct"])
def test_stored_images_have_balanced_anchors_and_their_record(
    zoo: tuple[ModelHandle, ...], params: dict[str, Any]
) -> None:
    before = fingerprint(zoo[0].module)
    for index in (0, 1):
        batch = made(zoo, index, **params, similar=2)
        count = len(batch.images)
        assert batch.labels is not None
        assert batch.soft_labels is not None
        assert batch.labels.tolist() == [(index * count + i) % CLASSES for i in range(count)]
        assert torch.equal(batch.soft_labels.argmax(1), batch.labels)
        alike = similarity(zoo[0].module.get_parameter("fc.weight"))
        assert batch.info["groups"] == groups(alike, 2).tolist()
        logits = zoo[0].module(batch.images)
        expected = read(batch.soft_labels, batch.labels, logits.detach(), alike)
        assert batch.info["plausibility"] == pytest.approx(expected["plausibility"])
        assert batch.info["difficulty"]["label"] == pytest.approx(expected["difficulty"]["label"])
        assert batch.info["difficulty"]["achieved"] == pytest.approx(expected["difficulty"]["achieved"], abs=1e-4)
        assert batch.info["group_top1"] == expected["group_top1"]
    assert fingerprint(zoo[0].module) == before


def test_one_class_is_one_hot_and_the_random_control_has_no_groups(zoo: tuple[ModelHandle, ...]) -> None:
    for params in (SHORT, PIXELS):
        batch = made(zoo, **params, similar=1)
        assert batch.labels is not None
        assert batch.soft_labels is not None
        assert torch.equal(batch.soft_labels, F.one_hot(batch.labels, CLASSES).float())
        assert batch.info["plausibility"] is None
        assert made(zoo, **params, groups="random").info["groups"] is None
        with pytest.raises(NotApplicable, match="similar"):
            made(zoo, **params, similar=CLASSES + 1)


def test_answers_come_to_lie_inside_the_groups_and_follow_the_difficulty(zoo: tuple[ModelHandle, ...]) -> None:
    """After a short training of the generator, and of the images themselves."""
    generator = made(zoo, iterations=200, batch=32, width=16, latent=16, lr=5e-3, images=128)
    direct = made(zoo, backend="direct", pixel_iterations=80, pixel_batch=64, pixel_bn_weight=0.01)
    for batch in (generator, direct):
        assert batch.info["group_top1"] > 90
        assert batch.info["difficulty"]["rank_correlation"] > 0.3
    logits = zoo[0].module(direct.images).detach()
    assert direct.soft_labels is not None
    shuffled_labels = direct.soft_labels.roll(1, 0)
    own, other = (float(F.cross_entropy(logits, q)) for q in (direct.soft_labels, shuffled_labels))
    assert own < 0.5 * other


def test_optimised_images_cost_their_passes_and_two_looks(zoo: tuple[ModelHandle, ...]) -> None:
    assert made(zoo, **PIXELS).forward_equivalents == 12 * (2 * 2 + 1 + 1)
    half = made(zoo, **PIXELS, pixel_half_iterations=1)
    assert half.forward_equivalents == 12 * (2 * 1.25 + 1 + 1)
    assert half.info["iterations"] == {"1/2": 1, "1/1": 1}


def test_a_stream_has_soft_labels_and_needs_a_generator(zoo: tuple[ModelHandle, ...]) -> None:
    stream = METHOD.stream(request(METHOD, zoo, **SHORT, warmup=2), context())
    batch = stream.next_batch()
    assert stream.info()["iterations"] == 3
    assert batch.labels is not None
    assert batch.soft_labels is not None
    assert batch.soft_labels.shape == (8, CLASSES)
    assert torch.equal(batch.soft_labels.argmax(1), batch.labels)
    assert 1 < float((batch.soft_labels > 0).sum(1).float().mean()) <= 2
    with pytest.raises(NotApplicable, match="needs a generator"):
        METHOD.stream(request(METHOD, zoo, **PIXELS), context())


# --- mixup ---


@dataclass
class Answers:
    """A training whose teacher's logits are the images' first pixels; counts how often it is asked."""

    asked: int = 0

    def __call__(self, images: Tensor, /) -> Tensor:
        raise AssertionError("the student's loss is of no interest")

    def teacher(self, images: Tensor) -> Tensor:
        self.asked += 1
        return images.flatten(1)[:, :CLASSES]


def labelled(count: int = 10, seed: int = 0) -> Batch:
    images = torch.randn(count, 1, 6, 6, generator=seeded(seed)) * 3
    q = torch.rand(count, CLASSES, generator=seeded(seed + 1))
    q = q / q.sum(1, keepdim=True)
    return Batch(images, q.argmax(1), q)


def test_no_batch_is_mixed_before_half_of_the_training() -> None:
    batch, generator, asked = labelled(), seeded(), Answers()
    for total in (1, 2, 7, 8):
        for step in range(total):
            state = generator.get_state()
            after = Mixup()(batch, step, total, asked, generator)
            if 2 * step < total:
                assert after is batch
                assert torch.equal(state, generator.get_state())
            else:
                assert not torch.equal(after.images, batch.images)
    assert asked.asked == 0 + 1 + 3 + 4  # of one step none lies behind the half, of two one, ...


@pytest.mark.parametrize(("start", "mixed_steps"), [(0.0, 8), (0.7, 2), (1.0, 0)])
def test_mixing_starts_where_it_is_told(start: float, mixed_steps: int) -> None:
    batch, generator = labelled(), seeded()
    hook = METHOD.hook(METHOD.Params(mix_from=start))
    assert sum(hook(batch, step, 8, Answers(), generator) is not batch for step in range(8)) == mixed_steps


@pytest.mark.parametrize("by", ["achieved", "label"])
@pytest.mark.parametrize("easy", [0.3, 0.5, 1.0])
def test_only_easy_images_are_mixed_and_only_with_each_other(easy: float, by: Any) -> None:
    batch, asked = labelled(), Answers()
    assert batch.soft is not None
    after = METHOD.hook(DdpqParams.model_validate({"easy": easy, "easy_by": by}))(batch, 3, 4, asked, seeded())
    assert asked.asked == (by == "achieved")
    shares = batch.images.flatten(1)[:, :CLASSES].softmax(1) if by == "achieved" else batch.soft
    entropies = torch.distributions.Categorical(probs=shares).entropy()
    expected = set(entropies.argsort()[: int(10 * easy)].tolist())
    assert after.soft is not None
    assert after.labels is not None
    for row in range(10):
        if row not in expected:
            assert torch.equal(after.images[row], batch.images[row])
            assert torch.equal(after.soft[row], batch.soft[row])
            assert after.labels[row] == batch.labels[row]  # type: ignore[index]
            continue
        gaps = after.images[row] - batch.images[row]
        assert float(gaps.abs().max()) > 0
        found = []
        for partner in expected - {row}:
            way = batch.images[partner] - batch.images[row]
            share = float((gaps * way).sum() / way.square().sum())
            if torch.allclose(gaps, share * way, atol=1e-4):
                found.append((partner, share))
        ((partner, share),) = found
        assert 0 <= share <= 1
        torch.testing.assert_close(after.soft[row], (1 - share) * batch.soft[row] + share * batch.soft[partner])
        assert int(after.labels[row]) == int(after.soft[row].argmax())
    torch.testing.assert_close(after.soft.sum(1), torch.ones(10))


def test_shares_of_a_mixture_are_uniform_and_differ_from_image_to_image() -> None:
    images = torch.zeros(4000, 1, 1, 1)
    images[::2] = 1.0
    rows = torch.arange(4000)
    share = torch.rand(4000, generator=seeded())
    found = mixed(Batch(images, rows % 2, None), rows, rows.roll(1), share)
    torch.testing.assert_close(found.images.flatten()[::2], share[::2])
    torch.testing.assert_close(found.images.flatten()[1::2], 1 - share[1::2])
    assert found.labels is not None
    assert torch.equal(found.labels[::2], (share[::2] < 0.5).long())  # without soft labels that of the larger part
    # a batch of zeros but one image shows the hook's own shares: Beta(1, 1) has mean 1/2 and deviation 1/sqrt(12)
    drawn = []
    for seed in range(300):
        batch = Batch(torch.eye(4).view(4, 1, 4, 1) * 5, None, None)
        after = Mixup(1.0)(batch, 1, 2, Answers(), seeded(seed))
        drawn += [float(after.images[i, 0, i, 0]) / 5 for i in range(4)]
    shares = torch.tensor(drawn)
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.std()) == pytest.approx(1 / math.sqrt(12), abs=0.02)


@pytest.mark.parametrize("batch", [labelled(3), labelled(1)])
def test_a_lone_easy_image_has_nobody_to_be_mixed_with(batch: Batch) -> None:
    assert Mixup()(batch, 1, 2, Answers(), seeded()) is batch


def test_a_training_mixes_in_its_second_half_and_counts_the_looks() -> None:
    teacher, student = trained(6, 0).requires_grad_(False), trained(6, 1)
    images = torch.randn(32, *GREY.shape, generator=seeded())
    q = torch.rand(32, CLASSES, generator=seeded(1)).softmax(1)
    seen: list[Batch] = []

    def watch(batch: Batch, step: int, total: int, loss: Any, generator: torch.Generator) -> Batch:
        seen.append(batch)
        return batch

    rule, losses = Optimiser(), Losses(labels=1.0)
    batches = shuffled(images, 16, seeded(), q.argmax(1), q)
    curve = train(student, teacher, batches, Schedule(4, 16, 0.01), rule, losses, context(), hooks=(Mixup(), watch))
    known = {tuple(image.flatten().tolist()) for image in images}
    fresh = [sum(tuple(image.flatten().tolist()) not in known for image in batch.images) for batch in seen]
    assert fresh == [0, 0, 8, 8]
    assert curve.passes == 4 * 3 * 16 + 2 * 16  # and the teacher's look at 16 images in two steps


def test_presets_and_declarations() -> None:
    assert (METHOD.access, METHOD.label_kind, METHOD.models) == ("T2a", "assigned", "one")
    assert METHOD.offers == {"stream", "hook"}
    values: dict[str, Any] = {name: METHOD.Params(**preset) for name, preset in METHOD.presets.items()}
    assert {value.similar for value in values.values()} == {2}
    assert (values["mini"].iterations, values["mini"].batch, values["mini"].images) == (300, 128, 1024)
    assert (values["paper"].condition, values["paper"].batch) == ("norms", 16)
    assert METHOD.batch_size(values["mini"]) == 1024
    assert METHOD.batch_size(values["mini"].model_copy(update={"backend": "direct"})) == 128
