"""Videos as clips: which frames are taken, from folders and list files, and what is said of those that are damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bench.data import clips, manifests
from bench.data.access import DataAccess
from bench.data.clips import random_offsets, segment_frames
from bench.data.datasets import Dataset, get_dataset, images_at
from bench.data.places import files_of
from bench.data.table import SPECS, resized, spec_of
from bench.errors import DataError

CLASSES = ("dance", "jump", "swim")
LENGTHS = (3, 9, 16)
"""Frames of the videos of each class: fewer than a clip's, more, twice as many."""


def shade(label: int, frame: int) -> tuple[int, int, int]:
    """The colour of a video's frame."""
    return (60 + label, 3 * frame, 200)


def write_video(folder: Path, label: int, frames: int, first: int = 1) -> None:
    folder.mkdir(parents=True)
    for frame in range(frames):
        Image.new("RGB", (20, 16), shade(label, frame)).save(folder / f"img_{first + frame:05d}.png")


@pytest.fixture
def root(cache: Path, tmp_path: Path) -> Path:
    """train and test: a video of each length in each class."""
    place = tmp_path / "videos"
    for split in ("train", "test"):
        for label, name in enumerate(CLASSES):
            for number, frames in enumerate(LENGTHS):
                write_video(place / split / name / f"v{number}", label, frames)
    return place


def opened(root: Path, size: str = "@8x4") -> Dataset:
    """The data set as another process finds it."""
    clips.open_clips.cache_clear()
    return get_dataset(f"videofolder:{root}{size}")


def frames_in(clip: np.ndarray, frames: int = 4) -> list[int]:  # type: ignore[type-arg]
    """Which frames of its video a clip [N·3, H, W] shows."""
    colours = clip.reshape(frames, 3, -1)
    assert (colours == colours[:, :, :1]).all()
    return [int(green) // 3 for green in colours[:, 1, 0]]


@given(count=st.integers(1, 300), frames=st.integers(1, 64), seed=st.integers(0, 2**31))
def test_one_frame_of_each_segment(count: int, frames: int, seed: int) -> None:
    centres = segment_frames(count, frames)
    drawn = segment_frames(count, frames, random_offsets(seed, 0, frames))
    for found in (centres, drawn):
        assert (np.diff(found) >= 0).all()
        assert found[0] >= 0
        assert found[-1] < count
        segment = np.arange(frames)
        if count >= frames:  # by the definition of equal parts, in whole frames
            assert (found * frames > segment * count - frames).all()
            assert (found * frames < (segment + 1) * count).all()
            assert len(set(found.tolist())) == frames
        else:
            assert (found == segment * count // frames).all()
    assert np.array_equal(centres, segment_frames(count, frames))


def test_centres_by_hand() -> None:
    assert segment_frames(12, 4).tolist() == [1, 4, 7, 10]
    assert segment_frames(12, 1).tolist() == [6]
    assert segment_frames(3, 8).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert segment_frames(16, 8).tolist() == [1, 3, 5, 7, 9, 11, 13, 15]


def test_draws_reach_every_frame_and_no_other() -> None:
    seen: list[set[int]] = [set() for _ in range(4)]
    for draw in range(60):
        for segment, frame in enumerate(segment_frames(18, 4, random_offsets(draw, 7, 4)).tolist()):
            seen[segment].add(frame)
    assert seen == [set(range(0, 4)), set(range(4, 9)), set(range(9, 13)), set(range(13, 18))]


def test_a_clip_is_its_frames_one_after_the_other(root: Path) -> None:
    data = opened(root)
    assert data.spec.shape == (12, 8, 8)
    assert (data.spec.frames, data.spec.channels, data.spec.class_names) == (4, 3, CLASSES)
    assert len(data.spec.mean) == len(data.spec.std) == 12
    split = data.test()
    assert split.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    images = split.read(np.arange(9))
    for label, frames, clip in zip(split.labels, LENGTHS * 3, images, strict=True):
        assert clip[0, 0, 0] == 60 + label
        assert frames_in(clip) == segment_frames(frames, 4).tolist()
    assert images[[7, 2]].tobytes() == split.read(np.array([7, 2])).tobytes()
    assert frames_in(opened(root, "@8x1").test().read(np.array([2]))[0], 1) == [8]  # of 16 the one in the middle


def test_training_clips_are_drawn_by_the_generator(root: Path) -> None:
    data = opened(root)

    def drawn(seed: int, count: int = 9) -> list[list[int]]:
        access = DataAccess(data, "T5")
        images, _, picks = access.train_images(count, torch.Generator().manual_seed(seed))
        pixels = (data.denormalise(images) * 255).round().byte().numpy()
        return [[pick, *frames_in(clip)] for pick, clip in zip(picks, pixels, strict=True)]

    first = drawn(0)
    assert first == drawn(0) != drawn(1)
    assert first[:6] == drawn(0, 6)  # a smaller set is a prefix
    for pick, *frames in first:
        count = LENGTHS[pick % 3]
        assert len(set(frames)) == min(4, count)
        assert frames == sorted(frames)
    fixed = data.train().read(np.arange(9))
    assert any(frames != frames_in(fixed[pick]) for pick, *frames in first)


def test_a_list_says_what_belongs_to_a_video(root: Path) -> None:
    data = opened(root)
    expected = data.test().read(np.arange(9))
    lines = [f"test/{name}/v{i} {n} {k}" for k, name in enumerate(CLASSES) for i, n in enumerate(LENGTHS)]
    for split in ("train", "test"):
        (root / f"{split}.txt").write_text("\n".join(lines).replace("test/", f"{split}/") + "\n\n")
    listed = opened(root)
    assert listed.spec.classes == 3
    assert listed.spec.class_names == ()
    assert np.array_equal(listed.test().read(np.arange(9)), expected)
    assert listed.test_digest() == data.test_digest()
    # a list may say fewer frames than there are, in its own order
    (root / "test.txt").write_text("test/swim/v2 4 2\ntest/dance/v0 3 0\n")
    short = opened(root).test()
    assert short.labels.tolist() == [2, 0]
    assert [frames_in(clip) for clip in short.read(np.arange(2))] == [[0, 1, 2, 3], [0, 0, 1, 2]]


def test_frames_may_be_numbered_from_nought(root: Path) -> None:
    write_video(root / "test" / "jump" / "v9", 1, 4, first=0)
    assert frames_in(opened(root).test().read(np.array([6]))[0]) == [0, 1, 2, 3]


BREAKS: Sequence[tuple[str, Callable[[Path], object], tuple[str, ...]]] = (
    (
        "a hole",
        lambda root: (root / "test/jump/v1/img_00004.png").unlink(),
        ("a frame is missing", "test/jump/v1", "img_00004.png"),
    ),
    (
        "numbered from two",
        lambda root: (root / "test/jump/v1/img_00001.png").unlink(),
        ("a frame is missing", "img_00001.png"),
    ),
    ("no frames", lambda root: [p.unlink() for p in (root / "test/dance/v0").iterdir()], ("no frames here", "v0")),
    (
        "a frame twice",
        lambda root: (root / "test/dance/v0/img_00001.jpg").write_bytes(b""),
        ("a frame is missing", "img_00002"),
    ),
    (
        "two kinds",
        lambda root: (root / "test/dance/v0/img_00004.jpg").write_bytes(b""),
        ("several kinds", ".jpg, .png", "test/dance/v0"),
    ),
    (
        "unknown class",
        lambda root: (root / "test/swim").rename(root / "test/swirl"),
        ("none of the training videos'", "swirl", "swim"),
    ),
    ("no videos of a class", lambda root: (root / "test/jump").rename(root / "away"), ()),
    ("an empty class", lambda root: (root / "test/jump").rename(root / "away") and (root / "test/jump").mkdir(),
     ("a class folder holds no video", "test/jump")),
    ("no split", lambda root: (root / "test").rename(root / "away"), ("no videos here", "img_00001.jpg")),
)  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [(change, said) for _, change, said in BREAKS], ids=[b[0] for b in BREAKS])
def test_damaged_folders_are_named(root: Path, change: Callable[[Path], object], said: tuple[str, ...]) -> None:
    change(root)
    if not said:  # the classes are the training videos'
        assert sorted(set(opened(root).test().labels.tolist())) == [0, 2]
        return
    with pytest.raises(DataError) as caught:
        opened(root).test()
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("test/dance/v0 3", "this line names no video"),
        ("test/dance/v0 three 0", "this line names no video"),
        ("test/dance/v0 0 0", "this line names no video"),
        ("test/dance/v0 3 -1", "this line names no video"),
        ("test/dance/v0 3 dance", "this line names no video"),
        ("test/dance/v0 4 0", "fewer frames than the list says"),
        ("test/dance/v7 3 0", "the video's frames are not here"),
        ("test/dance/v0 3 3", "no such class"),
        ("../videos/test/dance/v0 3 0", "outside the data set's folder"),
        ("/test/dance/v0 3 0", "outside the data set's folder"),
    ],
)
def test_wrong_lines_are_named(root: Path, line: str, said: str) -> None:
    (root / "test.txt").write_text(f"test/swim/v1 9 2\n\n{line}\n")
    with pytest.raises(DataError, match=said) as caught:
        opened(root).test()
    assert f"{root / 'test.txt'}:3: " in str(caught.value)


def test_a_class_without_training_videos_is_refused(root: Path) -> None:
    (root / "train.txt").write_text("train/dance/v0 3 0\ntrain/swim/v0 3 2\n")
    with pytest.raises(DataError, match="a class has no training video"):
        opened(root)
    (root / "train.txt").write_text("train/dance/v0 3 0\ntrain/jump/v0 3 1\n")
    (root / "test.txt").write_text("test/dance/v0 3 0\ntest/swim/v0 3 2\n")
    with pytest.raises(DataError, match="no such class") as caught:
        opened(root).test()
    assert "test.txt:2" in str(caught.value)
    (root / "test.txt").write_text(" \n")
    with pytest.raises(DataError, match="the list names no video"):
        opened(root).test()


def test_a_frame_that_cannot_be_read_is_named(root: Path) -> None:
    (root / "test/swim/v1/img_00004.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot read the image") as caught:
        opened(root).test().read(np.array([7]))
    assert "test/swim/v1/img_00004.png" in str(caught.value)


def test_digests_follow_the_frames_that_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened(root)
    test, train = data.test_digest(), data.train_digest()
    by_hand = hashlib.sha256(data.test().read(np.arange(9)).tobytes() + data.test().labels.tobytes()).hexdigest()
    assert test == by_hand != train
    decoded: list[Path] = []
    hashed: list[str] = []
    decode, digest = clips.decode, hashlib.file_digest
    monkeypatch.setattr(clips, "decode", lambda path, size: (decoded.append(path), decode(path, size))[1])
    monkeypatch.setattr(
        manifests.hashlib, "file_digest", lambda file, name: (hashed.append(file.name), digest(file, name))[1]
    )
    again = opened(root)
    assert [again.test_digest(), again.train_digest()] == [test, train]
    assert decoded == hashed == []
    # of 16 frames the third is no centre of four segments: nobody is tested on it, but training may draw it
    for split in ("test", "train"):
        Image.new("RGB", (20, 16), "red").save(root / split / "swim" / "v2" / "img_00002.png")
    changed = opened(root)
    assert changed.test_digest() == test
    assert changed.train_digest() != train
    assert opened(root, "@8x2").test_digest() != test


def test_names_with_sizes_and_frames() -> None:
    assert SPECS["activitynet"].shape == (24, 224, 224)
    assert spec_of("activitynet@112x16").shape == (48, 112, 112)
    assert spec_of("mini_kinetics@112").frames == 8
    assert spec_of("activitynet@112x16").mean == SPECS["imagenet"].mean * 16
    assert spec_of("fashion_clips@32x1").shape == (1, 32, 32)
    assert resized("activitynet@224x16", 160) == "activitynet@160x16"
    assert resized("videofolder:/a@b/c@32x4+held_out", 64) == "videofolder:/a@b/c@64x4"
    for name in ("imagenet@224x8", "imagefolder:/x@32x8"):
        with pytest.raises(DataError, match="images have no frames"):
            spec_of(name)
    for name in ("activitynet@224x0", "activitynet@224x65"):
        with pytest.raises(DataError, match="no clip of so many frames"):
            spec_of(name)


@pytest.mark.parametrize("name", ["activitynet", "mini_kinetics"])
def test_named_sets_are_measured_on_val(cache: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "named"
    (root / "somewhere").mkdir(parents=True)
    for label in (0, 199):
        write_video(root / "somewhere" / f"v{label}", label, 3)
    (root / "train.txt").write_text("somewhere/v0 3 0\nsomewhere/v199 3 199\n")
    (root / "val.txt").write_text("somewhere/v199 3 199\n")
    data = get_dataset(f"{name}@16x2", root)
    assert data.test().labels.tolist() == [199]
    assert images_at(data.test(), torch.tensor([0])).shape == (1, 6, 16, 16)
    hidden = files_of(f"{name}@16x2", root)
    assert {root / "val.txt", root / "train.txt", root / "somewhere", root / "val"} <= set(hidden)
    assert root not in hidden
    own = files_of("fashion_clips", root)
    assert set(files_of("fashion_mnist")) < set(own)  # what they are made of
    assert cache / "fashion_clips" / "test" in own
    with pytest.raises(DataError, match="no videos here"):
        get_dataset(name).test()
    (root / "val.txt").write_text("somewhere/v199 3 200\n")
    clips.open_clips.cache_clear()
    with pytest.raises(DataError, match="no such class"):
        get_dataset(f"{name}@16x2", root).test()


def test_unrelated_images_stand_still_in_clips(root: Path) -> None:
    data, digits = opened(root), get_dataset("digits")
    images = DataAccess(data, "T3", digits).unrelated_images(2, torch.Generator().manual_seed(0))
    assert images.shape == (2, 12, 8, 8)
    frames = images.unflatten(1, (4, 3))
    assert torch.equal(frames, frames[:, :1, :1].expand_as(frames))
    # of another domain's clips the frame in the middle serves a data set of images
    single = DataAccess(digits, "T3", data).unrelated_images(9, torch.Generator().manual_seed(0))
    assert single.shape == (9, 1, 32, 32)


def test_a_part_for_tuning_is_cut_from_videos_too(root: Path) -> None:
    for number in (3, 4):
        for label, name in enumerate(CLASSES):
            write_video(root / "train" / name / f"v{number}", label, 5)
    clips.open_clips.cache_clear()
    data = get_dataset(f"videofolder:{root}@8x4+held_out")
    assert data.spec.frames == 4
    assert data.test().labels.tolist() == [0, 1, 2]
    assert data.train().read(np.array([0]), 5).shape == (1, 12, 8, 8)
