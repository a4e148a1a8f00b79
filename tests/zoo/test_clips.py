"""Networks of clips: built, trained, brought, planned and run (docs/architecture.md#clips)."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from bench.board.index.imagesets import sheet
from bench.data.datasets import Dataset, get_dataset
from bench.data.splits import ArraySplit
from bench.errors import SuiteError
from bench.interfaces.clips import Clips, by_sample, frames_of
from bench.run import session
from bench.run.pictures import grid_png
from bench.zoo.bring import Own, bring
from bench.zoo.checkpoints import load_into, manifest
from bench.zoo.libraries import check_student, create
from bench.zoo.macs import count_macs
from bench.zoo.recipe import build_entry, train_one
from bench.zoo.table import Entry, entry
from bench.zoo.targets import info, load, untrained
from bench.zoo.train import recipe
from tests import pick
from tests.zoo.conftest import SPEC, toy_images

FRAMES = 4
CLIPS = dataclasses.replace(SPEC, shape=(FRAMES, 32, 32), mean=SPEC.mean * FRAMES, std=SPEC.std * FRAMES, frames=FRAMES)
NAME = "timm:test_resnet"


@pytest.fixture(scope="module")
def clips() -> Dataset:
    """Each clip four images of one class."""

    def split(count: int, seed: int) -> ArraySplit:
        images, labels = toy_images(FRAMES * count, seed)
        places = torch.arange(FRAMES * count).view(FRAMES, count // 10, 10).permute(1, 2, 0).flatten()
        return ArraySplit(images[places].view(count, FRAMES, 32, 32).numpy(), labels[places][::FRAMES].numpy().copy())

    train, test = split(160, 0), split(20, 1)
    return Dataset(CLIPS, lambda: train, lambda: train, lambda: test)


@torch.no_grad()
def test_logits_are_the_mean_of_the_frames() -> None:
    module = build_entry(entry("resnet18_w10"), Dataset(CLIPS, *3 * (lambda: None,))).eval()  # type: ignore[arg-type]
    assert isinstance(module, Clips)
    x = torch.randn(3, FRAMES, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = module(x)
    each = torch.stack([module.net(x[:, i : i + 1]) for i in range(FRAMES)])
    assert torch.allclose(logits, each.mean(0), atol=1e-5)
    assert torch.allclose(module(x[:, [2, 0, 3, 1]]), logits, atol=1e-5)
    assert torch.allclose(torch.cat([module(clip[None]) for clip in x]), logits, atol=1e-5)
    assert torch.equal(Clips(module.net, 1)(x[:, :1]), module.net(x[:, :1]))
    assert count_macs(module, CLIPS.shape) == FRAMES * count_macs(module.net, SPEC.shape)
    plain = build_entry(entry("resnet18_w10"), Dataset(SPEC, *3 * (lambda: None,)))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), plain.parameters(), strict=True))


def test_rows_and_samples() -> None:
    clips = torch.arange(2 * 6 * 1 * 1.0).view(2, 6, 1, 1)
    assert frames_of(clips, 3).flatten(1).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert by_sample(torch.tensor([[1.0], [3.0], [5.0], [9.0]]), 2).tolist() == [[2.0], [7.0]]
    rows = torch.ones(4, 2)
    assert by_sample(rows, 4) is rows


def test_a_zoo_network_is_trained_on_clips(clips: Dataset, tiny: Entry, tmp_path: Path) -> None:
    item = dataclasses.replace(tiny, epochs=2)
    made = train_one(item, clips, tmp_path)
    assert made == manifest(tmp_path, "tiny")
    assert made["shape"] == [FRAMES, 32, 32]
    assert made["mean"] == [0.5] * FRAMES
    assert made["recipe"] == recipe(item, FRAMES)
    assert made["recipe"]["batch"] * FRAMES == recipe(item)["batch"]
    again = build_entry(item, clips)
    load_into(again, tmp_path / "tiny.safetensors", made["sha256"])
    right = 0
    with torch.no_grad():
        for images, labels in clips.test_batches():
            pixels = (frames_of(images, FRAMES).float() / 255 - 0.5) / 0.25
            right += int((again.eval().net(pixels).argmax(1) == labels.repeat_interleave(FRAMES)).sum())
    assert made["top1_one_frame"] == pytest.approx(100 * right / (20 * FRAMES))


def test_students_are_built_for_clips() -> None:
    for name in ("toy/resnet18_w10", NAME):
        net = untrained(name, CLIPS, torch.Generator().manual_seed(0))
        assert isinstance(net, Clips)
        assert net.training
        assert net(torch.zeros(2, *CLIPS.shape)).shape == (2, 10)


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes, four videos of five frames each, and a cache folder of the test's own."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    root = tmp_path / "videos"
    for split in ("train", "test"):
        for label, name in enumerate(("dance", "jump", "swim")):
            for video in range(4):
                folder = root / split / name / f"v{video}"
                folder.mkdir(parents=True)
                for frame in range(5):
                    shade = (80 * label, 20 * frame, 9 * video)
                    Image.new("RGB", (70, 64), shade).save(folder / f"img_{frame + 1:05d}.png")
    return root


def test_a_librarys_network_looks_at_a_users_clips(videos: Path, tmp_path: Path) -> None:
    dataset = f"videofolder:{videos}@64x2"
    torch.save(create(NAME, 3).state_dict(), tmp_path / "mine.pth")
    suite = tmp_path / "own.yaml"
    suite.write_text(f"""
suite: own
version: 1
dataset: "{dataset}"
grid:
  source: [{{{pick.UPPER}: {{batch: 6}}}}, {{{pick.LOWER}: {{batch: 6}}}}]
  target: ["{NAME}"]
  compressor: [{pick.ROUND}]
  bits: [W8A8]
images: 6
seeds: [0]
""")
    options = session.Options(str(suite), store=tmp_path / "store", tracker="none", workers=0)
    with pytest.raises(SuiteError, match="does not fit the data set") as caught:
        session.run(options, Console(quiet=True))
    assert f"bench zoo add {NAME} FILE --data videofolder:PATH@64x2" in str(caught.value)

    made = bring(NAME, tmp_path / "mine.pth", own=Own(3, dataset))
    assert (made["shape"], made["frames"], made["classes"]) == ([6, 64, 64], 2, 3)
    handle = load(NAME)
    assert isinstance(handle.module, Clips)
    assert handle.mean == tuple(made["mean"])
    assert len(handle.mean) == 6
    assert made["macs"] == 2 * count_macs(handle.module.net, (3, 64, 64))
    data = get_dataset(dataset)
    check_student(NAME, data.spec)
    assert info(NAME).shape == (6, 64, 64)
    _, records = session.run(options, Console(quiet=True))
    assert [record.status for record in records] == ["ok", "ok"]
    for record in records:
        assert record.test_count == 12
        assert record.metrics["fp_top1"] == pytest.approx(made["top1"])
        assert record.metrics["macs"] == made["macs"]


def test_clips_are_shown_as_strips() -> None:
    frame = dataclasses.replace(CLIPS, mean=(0.0,) * FRAMES, std=(1.0,) * FRAMES)
    clips = np.zeros((1, FRAMES, 32, 32), np.float32)
    clips[0, 1] = 1
    with Image.open(io.BytesIO(grid_png(clips, frame, scale=1))) as picture:
        shown = np.asarray(picture)
    assert shown.shape == (32, 32 * FRAMES)
    assert sorted(set(np.flatnonzero(shown.any(0)))) == list(range(32, 64))
    picture, _ = sheet((255 * clips).astype(np.uint8), None, 1, FRAMES)
    assert np.array_equal(picture[:, :, 0], shown)
