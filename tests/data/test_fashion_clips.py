"""`bench data clips`: the same files everywhere, parts of one garment in every frame, and a target that needs them."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bench.cli.app import app
from bench.data import clips, fashion, fashion_clips, table
from bench.data.clips import segment_frames
from bench.data.datasets import get_dataset, whole
from bench.data.fashion_clips import CLASSES, COLUMNS, LENGTHS, ROWS, SIDE, files, make_clips, png
from bench.data.places import not_made
from bench.data.table import SPECS, shipped_digests
from bench.errors import DataError
from bench.interfaces.clips import Clips, frames_of
from bench.zoo.checkpoints import manifest, weights_folder
from bench.zoo.targets import load
from tests import pick

TARGET = "fashion_clips/resnet18_w10"


@pytest.fixture
def few(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three training and twenty test clips of each class."""
    monkeypatch.setattr(fashion_clips, "GARMENTS", {"train": 3, "test": 20})
    clips.open_clips.cache_clear()


def digest_of_files() -> str:
    found = hashlib.sha256()
    for name, content in files():
        found.update(name.encode() + content)
    return found.hexdigest()


def test_the_same_files_come_out_everywhere() -> None:
    """The files, and what a plan is told of them without looking: by the definition of a data set's digest."""
    every = hashlib.sha256()
    videos: dict[str, list[bytes]] = {}
    for name, content in files():
        every.update(name.encode() + content)
        videos.setdefault(name.rsplit("/", 1)[0], []).append(content)
    assert every.hexdigest() == fashion_clips.DIGEST
    recorded = shipped_digests()["fashion_clips"]
    labels = {split: np.repeat(np.arange(8), fashion_clips.GARMENTS[split]) for split in ("train", "test")}
    contents = [
        [hashlib.sha256(content).hexdigest() for content in frames]
        for name, frames in videos.items()
        if name.startswith("train/")
    ]
    train = json.dumps(contents).encode() + labels["train"].tobytes()
    assert hashlib.sha256(train).hexdigest() == recorded["train"]
    test = hashlib.sha256()
    for name, frames in videos.items():
        if name.startswith("test/"):
            for i in segment_frames(len(frames), 8):
                test.update(np.asarray(Image.open(io.BytesIO(frames[i]))).tobytes())
    test.update(labels["test"].tobytes())
    assert test.hexdigest() == recorded["test"]


def test_files_are_images_in_the_order_of_the_classes(few: None) -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)
    names = [name.rsplit("/", 1) for name, _ in files()]
    assert tuple(CLASSES) == SPECS["fashion_clips"].class_names == tuple(sorted(CLASSES))
    folders = list(dict.fromkeys(folder for folder, _ in names))
    assert len(folders) == 8 * 23
    lengths = [sum(folder == name for name, _ in names) for folder in folders]
    assert lengths[:6] == [*LENGTHS, *LENGTHS]


def windows(garment: np.ndarray) -> set[bytes]:  # type: ignore[type-arg]
    """Every part of a garment that a frame could show."""
    spare = fashion.SIDE - ROWS + 1, fashion.SIDE - COLUMNS + 1
    return {garment[y : y + ROWS, x : x + COLUMNS].tobytes() for y in range(spare[0]) for x in range(spare[1])}


def parts(image: np.ndarray, half: int) -> set[bytes]:  # type: ignore[type-arg]
    columns = image[:, half * COLUMNS : half * COLUMNS + COLUMNS]
    return {columns[y : y + ROWS].tobytes() for y in range(SIDE - ROWS + 1)}


def test_each_frame_shows_a_part_of_the_garment_and_one_of_another(few: None) -> None:
    arrays, _ = fashion.read_embedded()
    made: dict[str, list[np.ndarray]] = {}  # type: ignore[type-arg]
    for name, content in files():
        made.setdefault(name.rsplit("/", 1)[0], []).append(np.asarray(Image.open(io.BytesIO(content))))
    halves, different = [], []
    for split, label in (("train", "Bag"), ("test", "Dress"), ("test", "Ankle boot")):
        index = np.flatnonzero(arrays[f"{split}_labels"] == CLASSES[label])[1]
        own = windows(arrays[f"{split}_images"][index])
        shown = []
        for image in made[f"{split}/{label}/00001"]:
            here = [bool(parts(image, half) & own) for half in (0, 1)]
            assert any(here)
            halves.append(here.index(True))
            shown.append(frozenset(parts(image, halves[-1]) & own))
        different.append(len(set(shown)))
    assert set(halves) == {0, 1}
    assert min(different) >= 8 - 1  # parts that lie beyond the garment may look alike


def test_written_once_read_by_the_same_loader(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "clips"
    with pytest.raises(DataError, match="not those made elsewhere"):  # these few are not the data set
        make_clips(out)
    assert list(tmp_path.glob("*clips*")) == []
    with pytest.raises(DataError, match="bench data clips"):
        get_dataset("fashion_clips").test()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="a file where the folder of the clips"):
        make_clips(tmp_path / "file")
    monkeypatch.setattr(fashion_clips, "DIGEST", digest_of_files())
    found = CliRunner().invoke(app, ["data", "clips"])
    assert found.exit_code == 0
    assert "184 clips in" in found.output.replace("\n", " ")
    data = get_dataset("fashion_clips")
    with pytest.raises(DataError, match="not the clips that"):  # nor does the loader take them for it
        data.test()
    monkeypatch.setitem(table.shipped_digests(), "fashion_clips", {})
    images, labels = whole(data.test())
    assert images.shape == (160, 8, 32, 32)
    assert labels.tolist() == sorted(list(range(8)) * 20)
    content = dict(files())
    first = [content[f"test/Bag/00002/img_{i:05d}.png"] for i in (1, 2, 3, 4, 5, 6, 7, 9)]  # nine: 8 segments' centres
    assert np.array_equal(images[22].numpy(), np.stack([np.asarray(Image.open(io.BytesIO(one))) for one in first]))
    place = next(tmp_path.glob("cache/fashion_clips"))
    before = data.test_digest()
    assert make_clips(place) == 184
    assert data.test_digest() == before
    (place / "test" / "Bag" / "00001" / "img_00003.png").write_bytes(b"")
    with pytest.raises(DataError, match="something else") as caught:
        make_clips(place)
    assert "test/Bag/00001/img_00003.png" in str(caught.value)


def test_the_target_needs_eight_frames() -> None:
    fact = manifest(weights_folder("fashion_clips"), "resnet18_w10")
    assert fact["top1_one_frame"] <= 65
    assert fact["top1"] >= 85
    assert (fact["shape"], fact["classes"], fact["train_images"]) == ([8, 32, 32], 8, 4800)


@torch.no_grad()
def test_what_the_manifest_says_holds_on_a_part_of_the_test_clips(few: None) -> None:
    handle, module = load(TARGET), load(TARGET).module
    assert isinstance(module, Clips)
    made: dict[str, list[np.ndarray]] = {}  # type: ignore[type-arg]
    for name, content in files():
        if name.startswith("test"):
            made.setdefault(name.rsplit("/", 1)[0], []).append(np.asarray(Image.open(io.BytesIO(content))))
    labels = torch.tensor([list(CLASSES).index(name.split("/")[1]) for name in made])
    pixels = torch.from_numpy(np.stack([frames[:8] for frames in made.values()])).float() / 255
    x = (pixels - handle.mean[0]) / handle.std[0]
    eight = (module(x).argmax(1) == labels).float().mean()
    one = (module.net(frames_of(x, 8)).argmax(1) == labels.repeat_interleave(8)).float().mean()
    assert one < 0.65
    assert eight > one + 0.2


@pick.needs("coquant_video")
def test_a_plan_and_a_run_say_that_the_clips_have_to_be_made(cache: Path, tmp_path: Path) -> None:
    """A plan needs none of the files; a run ends before it writes anything."""
    said = "the clips are not here Make them: bench data clips"
    planned = CliRunner().invoke(app, ["plan", "coquant_video", "--store", str(tmp_path / "store")])
    assert planned.exit_code == 0
    assert said in " ".join(planned.output.split())
    options = ["--store", str(tmp_path / "store"), "--workers", "0", "--tracker", "none"]
    run = CliRunner().invoke(app, ["run", "coquant_video", *options])
    assert isinstance(run.exception, DataError)
    assert said in " ".join(str(run.exception).split())
    assert not (tmp_path / "store").exists()
    for root in (cache / "fashion_clips", tmp_path / "elsewhere"):
        for split in ("train", "test"):
            assert isinstance(not_made("fashion_clips@32x4", root), DataError)
            (root / split).mkdir(parents=True)
        assert not_made("fashion_clips@32x4", root) is None
    assert not_made("fashion_clips") is None
    assert not_made("fashion_mnist", tmp_path / "nowhere") is None
