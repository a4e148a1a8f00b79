"""The handle denies and records what lies beyond a tier, and draws balanced images (docs/architecture.md#rule-3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.data.access import DataAccess, balanced_order
from bench.data.datasets import Dataset, get_dataset
from bench.data.folders import open_folder
from bench.data.splits import ArraySplit, Split
from bench.errors import AccessDenied, DataError
from bench.interfaces import TIERS, DatasetSpec, Tier


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def toy(classes: int = 3, each: int = 4, shape: tuple[int, int, int] = (1, 8, 8)) -> Dataset:
    """Images whose every pixel is their index; the test split must never be read."""
    count = classes * each
    images = torch.arange(count).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, *shape).contiguous()
    labels = torch.arange(count) % classes

    def forbidden() -> Split:
        raise AssertionError("the test split was read")

    split = ArraySplit(images.numpy(), labels.numpy())
    spec = DatasetSpec("toy", classes, shape, (0.0,) * shape[0], (1 / 255,) * shape[0])
    return Dataset(spec, lambda: split, lambda: split, forbidden)


@pytest.mark.parametrize("tier", TIERS)
def test_training_images_need_t5(tier: Tier) -> None:
    access = DataAccess(toy(), tier)
    if TIERS.index(tier) < TIERS.index("T5"):
        with pytest.raises(AccessDenied, match=f"tier {tier} "):
            access.train_images(6, generator())
        assert [entry["denied"] for entry in access.audit] == [True]
    else:
        images, labels, picks = access.train_images(6, generator())
        assert images.shape == (6, 1, 8, 8)
        assert images[:, 0, 0, 0].round().long().tolist() == picks
        assert labels.tolist() == [p % 3 for p in picks]
        assert [(e["read"], e["count"], e["denied"]) for e in access.audit] == [("train", 6, False)]


@pytest.mark.parametrize("tier", TIERS)
def test_unrelated_images_need_t3(tier: Tier) -> None:
    access = DataAccess(toy(), tier, toy(shape=(3, 16, 16)))
    if TIERS.index(tier) < TIERS.index("T3"):
        with pytest.raises(AccessDenied, match="unrelated"):
            access.unrelated_images(2, generator())
        assert access.audit[0]["denied"]
    else:
        assert access.unrelated_images(2, generator()).shape == (2, 1, 8, 8)
        assert not access.audit[0]["denied"]


@pytest.mark.parametrize("tier", TIERS)
def test_unlabelled_images_need_t4_and_the_whole_set_t6(tier: Tier) -> None:
    access = DataAccess(toy(), tier)
    if TIERS.index(tier) < TIERS.index("T4"):
        with pytest.raises(AccessDenied, match="unlabelled"):
            access.unlabelled_images(5, generator())
    else:
        images, picks = access.unlabelled_images(5, generator())
        assert images[:, 0, 0, 0].round().long().tolist() == picks
        assert len(set(picks)) == 5
        with pytest.raises(DataError, match="no such number"):
            access.unlabelled_images(13, generator())
    if tier == "T6":
        access.training_set()[0].zero_()
        whole, labels = access.training_set()
        assert whole[:, 0, 0, 0].tolist() == list(range(12))  # the first caller wrote into its own copy
        assert labels.tolist() == [k % 3 for k in range(12)]
        parts = list(access.training_batches(5, generator()))
        assert [len(part) for part, _ in parts] == [5, 5, 2]
        seen = torch.cat([part[:, 0, 0, 0] for part, _ in parts]).tolist()
        assert sorted(seen) == list(range(12)) != seen
        assert torch.cat([part for _, part in parts]).tolist() == [k % 3 for k in seen]
        assert [e["count"] for e in access.audit if e["read"] == "complete training set"] == [12, 12, 12]
    else:
        for read in (access.training_set, lambda: access.training_batches(5, generator())):
            with pytest.raises(AccessDenied, match="complete"):
                read()


def test_a_denied_read_touches_no_image() -> None:
    def forbidden() -> Split:
        raise AssertionError("images were read")

    data = Dataset(toy().spec, forbidden, forbidden, forbidden)
    access = DataAccess(data, "T2b", data)
    for read in (access.train_images, access.unlabelled_images, access.unrelated_images):
        with pytest.raises(AccessDenied):
            read(1, generator())
    with pytest.raises(AccessDenied):
        access.training_set()
    assert len(access.audit) == 4
    assert all(entry["denied"] for entry in access.audit)


def test_only_the_images_picked_are_read(cache: Path, image_folder: Callable[..., Path]) -> None:
    root = image_folder(("train", "test"), ("cat", "dog"), 6, (32, 32))
    data = get_dataset(f"imagefolder:{root}")
    expected, _, picks = DataAccess(data, "T5").train_images(4, generator())
    free, drawn = DataAccess(data, "T4").unlabelled_images(3, generator())
    files = sorted((root / "train").rglob("*.png"))
    for place, path in enumerate(files):
        if place not in {*picks, *drawn}:
            path.write_bytes(b"no image")
    open_folder.cache_clear()  # as another process finds it
    again = get_dataset(f"imagefolder:{root}")
    assert torch.equal(DataAccess(again, "T5").train_images(4, generator())[0], expected)
    assert torch.equal(DataAccess(again, "T4").unlabelled_images(3, generator())[0], free)
    ood = DataAccess(get_dataset("fashion_mnist"), "T3", again)
    assert ood.unrelated_images(3, generator()).shape == (3, 1, 32, 32)  # the same draw as the unlabelled one
    with pytest.raises(DataError, match="cannot read the image"):
        DataAccess(again, "T6").training_set()


def test_nothing_public_leads_to_the_test_split() -> None:
    access = DataAccess(toy(), "T6", toy())
    reads = {"train_images", "unlabelled_images", "unrelated_images", "unrelated_labelled"}
    reads |= {"training_set", "training_batches"}
    assert {name for name in dir(access) if not name.startswith("_")} == {"audit"} | reads
    access.training_set()
    access.train_images(12, generator())
    access.unrelated_images(12, generator())


def test_every_prefix_of_whole_rounds_is_balanced_and_a_smaller_count_is_a_prefix() -> None:
    data = get_dataset("fashion_mnist")
    _, labels, picks = DataAccess(data, "T5").train_images(256, generator(3))
    for rounds in range(1, 26):
        assert torch.bincount(labels[: 10 * rounds], minlength=10).tolist() == [rounds] * 10
    assert len(set(picks)) == 256
    assert DataAccess(data, "T5").train_images(100, generator(3))[2] == picks[:100]
    assert DataAccess(data, "T5").train_images(100, generator(4))[2] != picks[:100]


@given(counts=st.lists(st.integers(1, 6), min_size=2, max_size=5), seed=st.integers(0, 1000))
def test_the_order_is_round_robin_until_a_class_runs_out(counts: list[int], seed: int) -> None:
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    order = balanced_order(labels, len(counts), generator(seed))
    assert len(order) == len(set(order.tolist())) == min(counts) * len(counts)
    for chunk in labels[order].split(len(counts)):
        assert chunk.sort().values.tolist() == list(range(len(counts)))


def test_the_audit_tells_one_draw_from_another() -> None:
    access = DataAccess(toy(), "T5")
    for seed in (0, 0, 1):
        access.train_images(3, generator(seed))
    first, again, other = (entry["indices"] for entry in access.audit)
    assert first == again != other


def test_too_many_images_and_no_other_domain_are_errors() -> None:
    access = DataAccess(toy(), "T6", toy())
    with pytest.raises(DataError, match="1 to 12"):
        access.train_images(13, generator())
    with pytest.raises(DataError, match="1 to 12"):
        access.unrelated_images(13, generator())
    with pytest.raises(DataError, match="no data set of another domain"):
        DataAccess(toy(), "T3").unrelated_images(1, generator())


@pytest.mark.parametrize("read", ["train_images", "unlabelled_images", "unrelated_images", "unrelated_labelled"])
def test_batches_read_one_by_one_are_the_whole_and_the_last_is_shorter(read: str) -> None:
    """Digits are 1,797 and no batch of 128 divides them: the last five images are a batch of their own."""

    def images(access: DataAccess, *asked: int | torch.Generator) -> Tensor:
        found = getattr(access, read)(*asked)
        return found if isinstance(found, Tensor) else found[0]

    access = DataAccess(toy(), "T6", toy())
    parts = [images(access, 5, generator(), start) for start in (0, 5, 10)]
    assert [len(part) for part in parts] == [5, 5, 2]
    assert torch.equal(torch.cat(parts), images(access, 12, generator()))
    assert [entry["count"] for entry in access.audit] == [5, 5, 2, 12]
    assert len(images(access, 50, generator(), 0)) == 12
    for count, start in ((5, 12), (5, -1), (0, 3)):
        with pytest.raises(DataError, match=r"(?s)no such images .*1 to 12"):
            images(access, count, generator(), start)


def test_labels_of_the_other_domain_belong_to_its_images() -> None:
    data, digits = get_dataset("fashion_mnist"), get_dataset("digits")
    access = DataAccess(data, "T3", digits)
    images, labels = access.unrelated_labelled(60, generator(2))
    assert torch.equal(images, access.unrelated_images(60, generator(2)))
    order = torch.randperm(len(digits.train().labels), generator=generator(2))[:60]
    assert torch.equal(labels, torch.as_tensor(digits.train().labels)[order])
    with pytest.raises(AccessDenied):
        DataAccess(data, "T2b", digits).unrelated_labelled(3, generator())


def test_unrelated_images_take_shape_and_constants_of_the_data_set() -> None:
    digits = get_dataset("digits")
    for name in ("fashion_mnist", "cifar10"):
        data = get_dataset(name)
        images = DataAccess(data, "T3", digits).unrelated_images(5, generator())
        assert images.shape == (5, *data.spec.shape)
        pixels = data.denormalise(images)
        assert torch.allclose(data.normalise((pixels * 255).round().to(torch.uint8)), images, atol=0.02)
        assert torch.allclose(pixels, pixels[:, :1].expand_as(pixels), atol=1e-5)
