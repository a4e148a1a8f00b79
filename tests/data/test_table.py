"""What a plan must know of data: recorded digests are those of the images, and neither torch nor images are loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from bench.data import places, table
from bench.data.datasets import get_dataset, whole
from bench.errors import DataError
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.suite import load_suite, suite_names

RECORDED = [(name, key) for name, keys in table.shipped_digests().items() for key in keys]


# Those of the clips that the package makes are looked at in test_fashion_clips.
@pytest.mark.parametrize(("name", "key"), [one for one in RECORDED if one[0] != places.MADE])
def test_recorded_digests_are_those_of_the_images(name: str, key: str) -> None:
    part, _, count = key.partition("/")
    subset = int(count) if count else None
    data = get_dataset(name)
    found = data.train_digest() if part == "train" else data.test_digest(subset)
    assert table.shipped_digests()[name][key] == found
    catalogue = ShippedCatalogue()
    known = catalogue.train_digest(name) if part == "train" else catalogue.test_digest(name, subset)
    assert known == found


def test_subsets_of_the_shipped_suites_are_recorded() -> None:
    suites = [load_suite(name) for name in suite_names()]
    known = [s for s in suites if s.dataset != places.SAMPLE]  # which images it holds is the user's choice
    asked = {(s.dataset, "test" if s.test_subset is None else f"test/{s.test_subset}") for s in known}
    assert asked <= set(RECORDED)


def test_other_subsets_are_digested_from_the_images() -> None:
    assert table.digest("digits", "test", subset=100) == get_dataset("digits").test_digest(100)


def test_digits_are_interpolated_as_torch_does() -> None:
    found = load_digits()
    small = torch.from_numpy(found.images).float().unsqueeze(1) / 16
    large = F.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    images, labels = whole(get_dataset("digits").test())
    assert torch.equal(images, (large * 255).round().to(torch.uint8))
    assert labels.tolist() == found.target.tolist()


def test_synsets_are_timms() -> None:
    from timm.data import ImageNetInfo

    assert places.synsets() == tuple(ImageNetInfo("imagenet-1k").label_names())
    assert len(places.synsets()) == 1000


def test_planning_needs_neither_torch_nor_the_images(cache: Path, image_folder: Callable[..., Path]) -> None:
    root = image_folder(("train", "test"), ("cat", "dog"), 2, (32, 32))
    code = f"""
import json, sys
from pathlib import Path
from bench.spec.catalogue import ShippedCatalogue
world = ShippedCatalogue()
facts = [world.test_digest("fashion_mnist", None), world.train_digest("digits"), world.dataset("cifar10").classes]
packed = "bench.data.fashion" not in sys.modules
name = "imagefolder:{root}"
facts += [world.test_digest(name, 2), world.train_digest(name), world.dataset(name).class_names]
facts += [world.test_digest("fashion_mnist", 500)]
heavy = sorted({{"torch", "timm", "torchvision"}} & set(sys.modules))
print(json.dumps([facts, packed, heavy]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    facts, packed, heavy = json.loads(done.stdout)
    assert heavy == []
    assert packed
    folder = get_dataset(f"imagefolder:{root}")
    fashion = get_dataset("fashion_mnist")
    own = [folder.test_digest(2), folder.train_digest(), ["cat", "dog"]]
    assert facts == [fashion.test_digest(), get_dataset("digits").train_digest(), 10, *own, fashion.test_digest(500)]


def test_a_damaged_table_of_digests_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "embedded").mkdir()
    (tmp_path / "embedded" / "digests.json").write_text("{")
    monkeypatch.setattr(table.resources, "files", lambda _: tmp_path)
    table.shipped_digests.cache_clear()
    try:
        with pytest.raises(DataError, match="damaged") as caught:
            table.digest("digits", "test")
    finally:
        table.shipped_digests.cache_clear()
    assert "digests.json" in str(caught.value)
