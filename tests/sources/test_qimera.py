"""Qimera: soft labels of superposed classes, and what is stored of them (docs/methods/sources.md#qimera,
#invariant-12)."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.interfaces import ModelHandle
from methods.sources._generators import Codes
from methods.sources._objectives import Network
from methods.sources._qimera_law import Law
from methods.sources.qimera import METHOD, QimeraParams
from tests.sources.toy import CLASSES, GREY, context, request

SHORT = {"iterations": 2, "batch": 8, "width": 8, "latent": 6}


def law(**params: object) -> Law:
    values = QimeraParams.model_validate({"batch": 64, **params})
    return Law(values, 10, 6, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("slots", [1, 2, 10])
def test_soft_labels_of_superposed_images(slots: int) -> None:
    codes = law(slots=slots).superposed(64)
    q = codes.soft(10)
    assert bool((q >= 0).all())
    torch.testing.assert_close(q.sum(1), torch.ones(64))
    assert int((q > 0).sum(1).max()) <= slots
    if slots == 1:
        assert sorted(set(q.flatten().tolist())) == [0.0, 1.0]
    else:
        assert codes.shares is not None
        assert float(codes.shares.std()) > 0.05


def test_a_class_drawn_twice_counts_twice() -> None:
    codes = Codes(torch.zeros(2, 3, 4), torch.tensor([[1, 2, 1], [0, 3, 2]]), torch.tensor([[0.3, 0.4, 0.3]] * 2))
    torch.testing.assert_close(codes.soft(4), torch.tensor([[0, 0.6, 0.4, 0], [0.3, 0, 0.3, 0.4]]))
    assert codes.labels(4).tolist() == [1, 3]


def test_coin_per_training_batch() -> None:
    drawn = law(superpose=0.4, slots=3)
    widths = [drawn.training().z.shape[1] for _ in range(300)]
    assert set(widths) == {1, 3}
    assert 0.3 < widths.count(3) / 300 < 0.5
    assert {law(superpose=0.0).training().z.shape[1] for _ in range(20)} == {1}


def test_loss_takes_the_soft_labels(zoo: tuple[ModelHandle, ...]) -> None:
    trainer = METHOD.build(request(METHOD, zoo, **SHORT), context(), METHOD.Params(**SHORT, bn_weight=0.0))
    x = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    shares = torch.tensor([[0.7, 0.3]] * 8)
    classes = torch.tensor([[0, 2]] * 8)
    found, _ = trainer.objective.backward(
        x.clone().requires_grad_(), Codes(torch.zeros(8, 2, 6), classes, shares), True
    )
    log_p = F.log_softmax(zoo[0].module(x), 1)
    expected = -(0.7 * log_p[:, 0] + 0.3 * log_p[:, 2]).mean()
    assert float(found["ce"]) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(found["top1"]) == pytest.approx(100 * float((log_p.argmax(1) == 0).float().mean()))


def stored(zoo: tuple[ModelHandle, ...], **params: object) -> tuple[Tensor, Tensor]:
    batch = METHOD.synthesize_batch(request(METHOD, zoo, **{**SHORT, "images": 100, **params}), context())
    assert batch.labels is not None
    assert batch.soft_labels is not None
    assert torch.equal(batch.labels, batch.soft_labels.argmax(1))
    return batch.labels, batch.soft_labels


def test_stored_images_hold_both_kinds_in_every_prefix(zoo: tuple[ModelHandle, ...]) -> None:
    labels, q = stored(zoo, slots=8)  # of four classes: never one-hot
    single = q.max(1).values == 1.0
    assert 0.45 < float(single.float().mean()) < 0.75
    assert 0 < int(single[:20].sum()) < 20
    assert labels[single].tolist() == [i % CLASSES for i in range(int(single.sum()))]
    assert stored(zoo, superpose=0.0)[0].tolist() == [i % CLASSES for i in range(100)]
    assert float(stored(zoo, superpose=1.0, slots=8)[1].max()) < 1.0


def test_single_classes_run_on_from_stored_batch_to_stored_batch(zoo: tuple[ModelHandle, ...]) -> None:
    for superpose in (0.0, 0.4):
        params = {**SHORT, "images": 10, "superpose": superpose, "slots": 8}
        for index in (0, 1, 3):
            batch = METHOD.synthesize_batch(request(METHOD, zoo, index, **params), context())
            assert batch.labels is not None
            assert batch.soft_labels is not None
            single = batch.labels[batch.soft_labels.max(1).values == 1.0].tolist()
            assert len(single) == 10 or (superpose and len(single) > 1)
            assert single == [(10 * index + i) % CLASSES for i in range(len(single))]


def test_codes_are_drawn_when_their_images_are_made(
    zoo: tuple[ModelHandle, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[weakref.ref[Codes]] = []
    held: list[int] = []
    plain = Law.superposed

    def watched(self: Law, count: int) -> Codes:
        held.append(sum(seen() is not None for seen in drawn))
        codes = plain(self, count)
        drawn.append(weakref.ref(codes))
        return codes

    source = request(METHOD, zoo, **SHORT, images=40, superpose=1.0)
    trainer = METHOD.build(source, context(), source.params)
    monkeypatch.setattr(Law, "superposed", watched)
    METHOD.sampled(trainer, source, context())
    assert len(held) == 5
    assert max(held) <= 1


def test_rows_of_the_stored_set_belong_together(zoo: tuple[ModelHandle, ...]) -> None:
    """Single-class images keep their own labels through the shuffle: after a training the teacher knows them."""
    params = {"iterations": 150, "batch": 32, "width": 16, "lr": 5e-3, "images": 128}
    batch = METHOD.synthesize_batch(request(METHOD, zoo[:1], **params), context())
    assert batch.labels is not None
    assert batch.soft_labels is not None
    single = batch.soft_labels.max(1).values == 1.0
    answers = zoo[0].module(batch.images).argmax(1)
    assert float((answers == batch.labels)[single].float().mean()) > 0.85
    assert float((answers == batch.labels.roll(1))[single].float().mean()) < 0.5


def test_embedding_of_the_teacher(zoo: tuple[ModelHandle, ...]) -> None:
    params = METHOD.Params(**SHORT, embedding="teacher")
    trainer = METHOD.build(request(METHOD, zoo, **SHORT), context(), params)
    assert trainer.generator.embedding is not None
    assert torch.equal(trainer.generator.embedding.detach(), zoo[0].module.fc.weight)
    assert isinstance(trainer.objective.teacher, Network)
    assert trainer.step().images.shape == (8, *GREY.shape)
    for condition in ("latent", "norms"):
        assert stored(zoo, embedding="teacher", condition=condition)[1].shape == (100, CLASSES)


def test_presets_and_declarations() -> None:
    assert (METHOD.access, METHOD.label_kind) == ("T2a", "assigned")
    values: dict[str, Any] = {name: METHOD.Params(**preset) for name, preset in METHOD.presets.items()}
    assert (values["mini"].iterations, values["mini"].batch, values["mini"].images) == (300, 128, 1024)
    assert (values["thorough"].iterations, values["thorough"].width) == (10_000, 128)
    assert (values["paper"].batch, values["paper"].condition, values["paper"].betas) == (16, "norms", (0.5, 0.999))
