"""Videos as clips of N frames: which frames, read from their files when they are asked for.  No torch.

Sampling as in Temporal Segment Networks (Wang et al., ECCV 2016): a video is cut into N segments of equal length, and
each gives one frame: its centre, or a random one where training images are drawn (``draw``).  A video of fewer than N
frames repeats some.  A clip's frames are scaled and cropped alike, as each image is (`bench.data.decoding`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.data.decoding import decode
from bench.data.folders import DecodedFiles
from bench.data.manifests import Manifest
from bench.data.splits import Bytes, Ints
from bench.data.videos import Video, list_videos


@dataclass(frozen=True)
class ClipSplit:
    """One split of a data set of videos.

    ``classes`` is how many there must be, ``frames`` the N of a clip, ``channels`` 3, or 1 for frames that are grey,
    ``size`` the side in pixels (224: shorter side to 256, then centre crop).  ``drawn``: training images are drawn from
    it, so that its digest covers every frame, not the segments' centres alone.
    """

    root: Path
    split: str
    classes: int
    frames: int
    channels: int
    size: int
    drawn: bool


def segment_frames(count: int, frames: int, offsets: Ints | None = None) -> Ints:
    """Indices int64 [frames] of one frame from each of ``frames`` equal segments of a video of ``count``: ascending, in
    0..count-1.

    Args:
        offsets: numbers from 0 on, int64 [frames], each taken modulo its segment's length; by default the centres.
    """
    starts = np.arange(frames + 1, dtype=np.int64) * count // frames
    widths = np.maximum(np.diff(starts), 1)  # shorter than a frame where the video is short: a frame comes twice
    return np.minimum(starts[:-1] + (widths // 2 if offsets is None else offsets % widths), count - 1)


def random_offsets(draw: int, video: int, frames: int) -> Ints:
    """Numbers int64 [frames] from 0 on for :func:`segment_frames`; of (draw, video) alone, so that what a video gives
    does not depend on what else is read."""
    words = np.random.SeedSequence((draw, video)).generate_state(frames, np.uint32)
    return words.astype(np.int64)


class VideoClips(DecodedFiles):
    """A split (``bench.data.splits.Split``) whose samples are clips uint8 [N·C, size, size], frame after frame."""

    def __init__(self, asked: ClipSplit, videos: Sequence[Video]) -> None:
        labels = np.array([video.label for video in videos], dtype=np.int64)
        super().__init__(asked.root, labels, (asked.frames * asked.channels, asked.size, asked.size))
        self._asked, self._videos = asked, tuple(videos)

    def _listed(self) -> Manifest:
        names = [name for index in range(len(self._videos)) for name in self._names(index)]
        part = f"{self._asked.split}, {'all' if self._asked.drawn else self._asked.frames} frames"
        return Manifest(self._folder, names, part)

    def _facts(self) -> list[object]:
        return ["clips", self._asked.size, self._asked.channels, self._asked.frames, self._asked.drawn]

    def _names(self, index: int) -> Sequence[str]:
        video = self._videos[index]
        used = range(video.count) if self._asked.drawn else dict.fromkeys(self._chosen(index, None))
        return [video.frame(i) for i in used]

    def _sample(self, index: int, draw: int | None) -> Bytes:
        video, chosen = self._videos[index], self._chosen(index, draw)
        here = {i: decode(self._folder / video.frame(i), self._asked.size) for i in dict.fromkeys(chosen)}
        return np.concatenate([here[i][: self._asked.channels] for i in chosen])

    def _hashed(self, picks: Ints, contents: list[list[str]]) -> Iterable[Bytes]:
        """Where any frame may be drawn, the contents of all files: decoding every frame of a large data set would take
        hours."""
        if not self._asked.drawn:
            return super()._hashed(picks, contents)
        return [np.frombuffer(json.dumps(contents).encode(), np.uint8)]

    def _chosen(self, index: int, draw: int | None) -> list[int]:
        count, frames = self._videos[index].count, self._asked.frames
        offsets = None if draw is None else random_offsets(draw, index, frames)
        return [int(i) for i in segment_frames(count, frames, offsets)]


@lru_cache(maxsize=8)
def open_clips(asked: ClipSplit) -> VideoClips:
    """The split's videos and labels, listed once per process; no frame is opened.

    Raises:
        DataError: as :func:`bench.data.videos.list_videos`.
    """
    return VideoClips(asked, list_videos(asked.root, asked.split, asked.classes))
