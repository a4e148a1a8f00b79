"""The recipe: resumable bit by bit, a one-cycle rate, nothing written when tuning, and what is written was measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from bench.data.datasets import Dataset, whole
from bench.data.splits import Split
from bench.zoo import recipe as recipes
from bench.zoo import train as training
from bench.zoo.augment import Seen, Views
from bench.zoo.checkpoints import digest_of, file_sha256, manifest
from bench.zoo.recipe import build_entry, train, train_one, verify
from bench.zoo.table import Entry, entry
from bench.zoo.train import TrainData, fit, learning_rate, recipe, top1


def data_of(dataset: Dataset) -> TrainData:
    return TrainData(*whole(dataset.full_train()), dataset.spec.mean, dataset.spec.std)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("stop", [1, 3])  # within the first cycle, and between the two
def test_interrupted_and_resumed_equals_uninterrupted(
    toy: Dataset, tiny: Entry, tmp_path: Path, stop: int, bf16: bool
) -> None:
    item = dataclasses.replace(tiny, bf16=bf16)
    whole = build_entry(item, toy)
    fit(item, whole, data_of(toy))

    begun = build_entry(item, toy)
    fit(item, begun, data_of(toy), checkpoint=tmp_path / "c", stop_after=stop)
    torch.manual_seed(99)  # nothing may hang on the global generator
    resumed = build_entry(item, toy)
    fit(item, resumed, data_of(toy), checkpoint=tmp_path / "c")
    assert digest_of(begun.state_dict()) != digest_of(whole.state_dict())
    assert digest_of(resumed.state_dict()) == digest_of(whole.state_dict())


def test_training_learns_and_ends_in_eval_mode(toy: Dataset, tiny: Entry) -> None:
    item = dataclasses.replace(tiny, epochs=13)
    module = build_entry(item, toy)
    seen: list[tuple[int, int]] = []
    seconds = fit(item, module, data_of(toy), report=lambda step, total, loss: seen.append((step, total)))
    assert not module.training
    assert seconds > 0
    assert seen[-1] == (56, 56)
    assert top1(module, toy.test_batches(), toy.spec.mean, toy.spec.std) > 40  # chance is 10


def test_a_network_of_the_table_trains_with_adamw_and_resumes(toy: Dataset, tmp_path: Path) -> None:
    item = dataclasses.replace(entry("vit_t32"), kwargs={**entry("vit_t32").kwargs, "patch": 8, "depth": 1}, epochs=2)
    item = dataclasses.replace(item, view_epochs=1)
    assert recipe(item)["optimiser"].startswith("adamw")
    whole, begun, resumed = (build_entry(item, toy) for _ in range(3))
    fit(item, whole, data_of(toy))
    fit(item, begun, data_of(toy), checkpoint=tmp_path / "c", stop_after=1)
    fit(item, resumed, data_of(toy), checkpoint=tmp_path / "c")
    assert digest_of(resumed.state_dict()) == digest_of(whole.state_dict())
    assert digest_of(begun.state_dict()) != digest_of(whole.state_dict())


def test_decay_follows_the_optimiser_and_spares_norms_and_biases(toy: Dataset, tiny: Entry) -> None:
    assert recipe(tiny)["weight_decay"] == 5e-4
    assert recipe(dataclasses.replace(tiny, optimiser="adamw"))["weight_decay"] == 0.05


def test_the_seed_changes_the_order_of_the_images(toy: Dataset, tiny: Entry) -> None:
    digests = set()
    for seed in (0, 1):
        module = build_entry(tiny, toy)  # the same start: only the draws differ
        fit(dataclasses.replace(tiny, seed=seed), module, data_of(toy), stop_after=1)
        digests.add(digest_of(module.state_dict()))
    assert len(digests) == 2


def test_the_rate_rises_for_a_fifth_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 100, 0.1) for step in range(100)]
    assert max(rates) == rates[19] == pytest.approx(0.1)
    assert rates[:20] == sorted(rates[:20])
    assert rates[19:] == sorted(rates[19:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)


def test_some_images_are_flipped_and_no_other_is_touched() -> None:
    images = torch.rand(16, 1, 32, 32, generator=torch.Generator().manual_seed(0)) + 1
    made = training._flip(images, torch.Generator().manual_seed(1))
    assert made.shape == images.shape
    flips = 0
    for kept, image in zip(made, images, strict=True):
        flipped = torch.equal(kept, image.flip(2))
        assert flipped or torch.equal(kept, image)
        flips += flipped
    assert 0 < flips < 16


def test_the_second_cycle_may_start_from_weights_of_the_first(toy: Dataset, tiny: Entry, tmp_path: Path) -> None:
    first = train_one(dataclasses.replace(tiny, view_epochs=0), toy, tmp_path / "first")
    whole, resumed = (
        train_one(tiny, toy, tmp_path / "whole"),
        train_one(tiny, toy, tmp_path / "second", start=tmp_path / "first"),
    )
    assert resumed["digest"] == whole["digest"] != first["digest"]
    assert resumed["first_cycle"]["sha256"] == first["sha256"]
    assert "first_cycle" not in whole


def test_views_are_of_the_images_and_stay_pixels() -> None:
    images = torch.rand(256, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.8
    seen = Views()(images, torch.Generator().manual_seed(1))
    views = seen.images
    assert views.shape == images.shape
    assert 0 <= float(views.min()) <= float(views.max()) <= 1
    assert torch.equal(views, Views()(images, torch.Generator().manual_seed(1)).images)
    same = sum(torch.allclose(v, i, atol=1e-5) for v, i in zip(views, images, strict=True))
    expected = 256 * 0.5 * 0.8 * 0.8 * 0.5 * 0.6  # not flipped, shifted, scaled, jittered, pasted into
    assert 0.5 * expected < same < 2 * expected


def test_a_partner_is_the_next_image_shrunk_to_a_box() -> None:
    size = 64  # so large that a box of whole pixels is near
    images = torch.rand(32, 1, size, size, generator=torch.Generator().manual_seed(0))
    still = Views(shifted=0, scaled=0, jittered=0, guest=(0.25, 0.5), pasted=1)
    host = dataclasses.replace(still, pasted=0)(images, torch.Generator().manual_seed(1))
    seen = still(images, torch.Generator().manual_seed(1))
    assert seen.partner.tolist() == [*range(1, 32), 0]
    assert not bool(host.share.any())
    for index in range(32):
        changed = seen.images[index, 0] != host.images[index, 0]
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert 0.25 * size - 1 <= min(height, width) <= max(height, width) <= 0.5 * size + 1
        assert float(seen.share[index]) * size**2 == height * width
        guest = host.images[int(seen.partner[index])]
        box = seen.images[index, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert abs(float(box.mean() - guest.mean())) < 0.03  # all of it is in there
    shares = Views(pasted=0.4)(images.repeat(16, 1, 1, 1), torch.Generator().manual_seed(2)).share > 0
    assert 0.33 < float(shares.float().mean()) < 0.47


def test_a_partner_is_not_mirrored_or_turned() -> None:
    ramp = torch.zeros(2, 1, 64, 64)
    ramp[1] = torch.linspace(0.2, 1.0, 64)[None, None]  # brighter rightwards
    still = Views(shifted=0, scaled=0, jittered=0, guest=(0.5, 0.5), pasted=1)
    for seed in range(8):
        plain = dataclasses.replace(still, pasted=0)(ramp, torch.Generator().manual_seed(seed)).images
        box = still(ramp, torch.Generator().manual_seed(seed)).images[0, 0]
        columns = box.amax(0)[box.amax(0) > 0]
        rising, partner = bool((columns.diff() >= 0).all()), bool(plain[1, 0, 0, -1] > plain[1, 0, 0, 0])
        assert len(columns) in (31, 32, 33)
        assert rising == partner  # as the partner's own view is, flipped or not


def test_the_label_of_a_partner_weighs_its_share_of_the_area() -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    labels, partner = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])
    share = torch.tensor([0.0, 0.1, 0.25])
    seen = Seen(torch.zeros(3, 1, 2, 2), partner, share)
    wanted = F.one_hot(labels, 4) * (1 - share)[:, None] + F.one_hot(labels[partner], 4) * share[:, None]
    smooth = (1 - training.SMOOTHING) * wanted + training.SMOOTHING / 4
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(training._loss(logits, labels, seen), expected)
    alone = dataclasses.replace(seen, share=torch.zeros(3))
    torch.testing.assert_close(
        training._loss(logits, labels, alone), F.cross_entropy(logits, labels, label_smoothing=training.SMOOTHING)
    )


@pytest.mark.parametrize(
    ("views", "allowed"),
    [
        (Views(shifted=1, scaled=0, jittered=0, pasted=0), "shift"),
        (Views(shifted=0, scaled=1, smallest=0.5, largest=0.5, jittered=0, pasted=0), "half"),
        (Views(shifted=0, scaled=0, jittered=1, pasted=0), "light"),
    ],
)
def test_each_view_does_what_it_says(views: Views, allowed: str) -> None:
    image = torch.zeros(1, 1, 32, 32)
    image[..., 12:20, 12:20] = 0.5
    made = views(image.expand(64, 1, 32, 32), torch.Generator().manual_seed(0)).images
    if allowed == "shift":
        places = {tuple(v[0].nonzero()[0].tolist()) for v in made}
        assert {p for p, _ in places} == {p for _, p in places} == set(range(8, 17))
        assert torch.allclose(made.sum((1, 2, 3)), image.sum(), rtol=1e-4)
    elif allowed == "half":
        assert made.sum((1, 2, 3)).tolist() == pytest.approx([float(image.sum()) / 4] * 64, rel=1e-3)
        assert not made[..., :12, :].any()
    else:
        centre, border = made[:, 0, 15, 15], made[:, 0, 0, 0]
        assert 0.32 < float(centre.min()) < 0.4  # 0.5 darker and flatter by a fifth each
        assert 0.62 < float(centre.max()) < 0.72
        assert float(border.max()) < 0.02


def test_what_is_written_is_what_was_measured(toy: Dataset, tiny: Entry, tmp_path: Path) -> None:
    made = train_one(tiny, toy, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.json", "tiny.safetensors"]
    assert manifest(tmp_path, "tiny") == made
    assert made["top1"] == made["top1_reloaded"]
    assert made["sha256"] == file_sha256(tmp_path / "tiny.safetensors")
    assert (made["seed"], made["train_images"], made["recipe"]) == (0, 512, recipe(tiny))
    assert (made["mean"], made["std"]) == ([0.5], [0.25])


def test_a_second_run_trains_nothing_and_verify_agrees(
    toy: Dataset, tiny: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = dataclasses.replace(tiny, epochs=1)
    monkeypatch.setattr(recipes, "get_dataset", lambda *_: toy)
    monkeypatch.setattr(recipes, "entry", lambda _: item)
    steps: list[int] = []
    first = list(train("toy", ["tiny"], tmp_path, lambda name, step, total, loss: steps.append(step)))
    assert [made["name"] for made in first] == ["tiny"]
    assert steps[-1] == 8
    assert list(train("toy", ["tiny"], tmp_path, lambda *_: None)) == []
    (row,) = verify("toy", tmp_path)
    assert row["ok"]
    assert row["measured"] == pytest.approx(first[0]["top1"])


def test_tuning_leaves_the_test_set_and_the_weights_folder_alone(toy: Dataset, tiny: Entry, tmp_path: Path) -> None:
    def forbidden() -> Split:
        raise AssertionError("the test set was read")

    item = dataclasses.replace(tiny, epochs=1)
    blind = Dataset(toy.spec, toy.train_part, toy.full_part, forbidden)
    assert 0 <= train_one(item, blind, tmp_path, holdout=128)["holdout_top1"] <= 100
    assert not list(tmp_path.iterdir())
