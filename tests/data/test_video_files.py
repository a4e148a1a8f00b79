"""`bench data frames`: real video files, written and decoded by PyAV."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.atomic import temporary_name
from bench.cli.app import app
from bench.data import video_files
from bench.data.datasets import get_dataset
from bench.data.video_files import Taken, extract
from bench.errors import DataError

RATE = 10
LENGTHS = {"bounce": 20, "slide": 12}


def level(frame: int) -> int:
    """The grey of a frame: far enough from the next one's to survive coding."""
    return 20 + 10 * frame


def encode(path: Path, frames: int, size: tuple[int, int] = (48, 32)) -> None:
    """A file of so many grey frames, RATE a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), level(number), np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture
def videos(cache: Path, tmp_path: Path) -> Path:
    """Two classes, one video each in train, one in test."""
    root = tmp_path / "videos"
    for name, frames in LENGTHS.items():
        encode(root / "train" / name / "a b.mp4", frames)
    encode(root / "test" / "slide" / "c.mp4", 8)
    (root / "train" / "slide" / "notes.txt").write_text("no video")
    return root


def shown(folder: Path) -> list[int]:
    """Which frames of the video lie in a folder, told by their grey."""
    greys = [np.asarray(Image.open(path).convert("L")).mean() for path in sorted(folder.iterdir())]
    found = [round((grey - 20) / 10) for grey in greys]
    assert [abs(grey - level(frame)) < 4 for grey, frame in zip(greys, found, strict=True)] == [True] * len(found)
    return found


def test_every_frame_of_a_real_file(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    moved: list[tuple[int, int]] = []
    made = extract(videos, out, Taken(every=1, side=0), report=lambda done, total: moved.append((done, total)))
    assert (made.made, made.stood, made.failed) == (3, 0, ())
    assert moved[-1] == (3, 3)
    assert shown(out / "train" / "bounce" / "a b") == list(range(20))
    assert sorted(path.name for path in (out / "test" / "slide" / "c").iterdir())[:2] == [
        "img_00001.jpg",
        "img_00002.jpg",
    ]
    assert (out / "train.txt").read_text() == "train/bounce/a b 20 0\ntrain/slide/a b 12 1\n"
    assert (out / "test.txt").read_text() == "test/slide/c 8 1\n"
    data = get_dataset(f"videofolder:{out}@32x4")
    clip = data.test().read(np.array([0])).reshape(4, 3, -1).mean((1, 2))
    assert [round((grey - 20) / 10) for grey in clip] == [1, 3, 5, 7]
    assert data.test().labels.tolist() == [1]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (Taken(every=3), [0, 3, 6, 9]),
        (Taken(fps=5), [0, 2, 4, 6, 8, 10]),
        (Taken(fps=2.5), [0, 4, 8]),
        (Taken(fps=4), [0, 3, 5, 8, 10]),
        (Taken(fps=100), list(range(12))),
    ],
)
def test_frames_are_taken_by_number_or_time(videos: Path, tmp_path: Path, taken: Taken, expected: list[int]) -> None:
    extract(videos, tmp_path / "frames", taken)
    assert shown(tmp_path / "frames" / "train" / "slide" / "a b") == expected


def test_large_frames_are_scaled_down(videos: Path, tmp_path: Path) -> None:
    extract(videos, tmp_path / "frames", Taken(every=9, side=16))
    with Image.open(tmp_path / "frames" / "test" / "slide" / "c" / "img_00001.jpg") as image:
        assert image.size == (24, 16)


def test_the_same_command_goes_on(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, taken = tmp_path / "frames", Taken(every=1)

    class Killed(BaseException):
        pass

    saved = 0
    save = Image.Image.save

    def cut(image: Image.Image, *args: object, **more: object) -> None:
        nonlocal saved
        saved += 1
        if saved == 12:  # the test video's 8 frames, then in the midst of the next
            raise Killed
        save(image, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "save", cut)
    with pytest.raises(Killed):
        extract(videos, out, taken)
    monkeypatch.setattr(Image.Image, "save", save)
    whole = [path for path in out.glob("*/*/*") if not path.name.startswith(".")]
    assert [path.name for path in whole] == ["c"]
    # what a process left that was killed for good is swept: its number is no living process's
    left = whole[0].with_name(temporary_name("d").replace(f"-{os.getpid()}-", "-99999999-"))
    left.mkdir()
    before = {path: path.stat().st_mtime_ns for path in whole[0].iterdir()}
    again = extract(videos, out, taken)
    assert (again.made, again.stood) == (2, 1)
    assert {path: path.stat().st_mtime_ns for path in whole[0].iterdir()} == before
    assert not left.exists()
    assert (out / "train.txt").read_text().count("\n") == 2
    with pytest.raises(DataError, match="taken in another way"):
        extract(videos, out, Taken(every=2))


def test_a_damaged_file_is_said_and_left_out(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    (videos / "train" / "bounce" / "bad.mp4").write_bytes(b"no video at all")
    good = videos / "train" / "slide" / "a b.mp4"
    content = good.read_bytes()
    (videos / "train" / "slide" / "cut.mp4").write_bytes(content[: len(content) // 2])
    (videos / "train" / "slide" / "empty.mp4").write_bytes(b"")
    encode(videos / "train" / "slide" / "half.avi", 20, (160, 120))
    content = (videos / "train" / "slide" / "half.avi").read_bytes()
    (videos / "train" / "slide" / "half.avi").write_bytes(content[: len(content) * 6 // 10])  # decodes, up to there
    asked = ["data", "frames", str(videos), str(out), "--every", "2"]
    found = CliRunner().invoke(app, asked)
    assert found.exit_code == 1
    said = found.output.replace("\n", "")
    for name in ("bad.mp4", "cut.mp4", "empty.mp4", "half.avi"):
        assert f"{name}: left out: " in said
    assert "3 videos decoded, 0 stood already, 4 left out" in said
    assert (out / "train.txt").read_text() == "train/bounce/a b 10 0\ntrain/slide/a b 6 1\n"
    assert CliRunner().invoke(app, asked).exit_code == 1
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_a_class_of_damaged_files_alone_leaves_no_folder(videos: Path, tmp_path: Path) -> None:
    bad = videos / "train" / "wave" / "bad.mp4"
    bad.parent.mkdir()
    bad.write_bytes(b"no video")
    ((path, reason),) = extract(videos, tmp_path / "frames", Taken(every=1)).failed
    assert path == bad
    assert reason
    assert sorted(p.name for p in (tmp_path / "frames" / "train").iterdir()) == ["bounce", "slide"]


def test_bad_input(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    encode(videos / "test" / "slyde" / "e.mp4", 3)
    with pytest.raises(DataError, match="no training video has this class") as caught:
        extract(videos, out, Taken(every=1))
    assert caught.value.nearest == "slide"
    assert not out.exists()
    (videos / "test" / "slyde").rename(videos / "slyde")
    with pytest.raises(DataError, match="splits and other folders"):
        extract(videos, out, Taken(every=1))
    with pytest.raises(DataError, match="no video files here"):
        extract(tmp_path / "videos" / "slyde", out, Taken(every=1))
    with pytest.raises(DataError, match="no such split"):
        extract(videos / "train", out, Taken(every=1), split="training")
    with pytest.raises(DataError, match="a file where the folder of the frames"):
        extract(videos, videos / "train" / "slide" / "notes.txt", Taken(every=1))
    both = CliRunner().invoke(app, ["data", "frames", str(videos), str(out), "--every", "2", "--fps", "3"])
    assert both.exit_code != 0
    (videos / "train" / "slide" / "a b.avi").write_bytes((videos / "train" / "slide" / "a b.mp4").read_bytes())
    with pytest.raises(DataError, match="two videos of one name"):
        extract(videos / "train", out, Taken(every=1))


def test_one_split_of_classes(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    extract(videos / "train", out, Taken(every=4), split="train")
    extract(videos / "test", out, Taken(every=4), split="val")
    assert (out / "val.txt").read_text() == "val/slide/c 2 1\n"


def test_without_the_library_the_error_says_what_to_install(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(Exception, match=r"pip install 'datafree-bench\[video\]'"):
        extract(videos, tmp_path / "frames", Taken(every=1))
    assert video_files.SETTINGS == "frames.json"
