"""`bench measured …`, `bench mlflow …`, `bench data …`: what comes into the package's folders and goes to MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.cli.edge import resumable
from bench.cli.options import STORE, StoreOpt, SuiteArg, err, out
from bench.errors import BenchError

measured = typer.Typer(
    help="Measured records that travel with the package.  Example: `bench measured add ptq_w4a4`", no_args_is_help=True
)
mlflow = typer.Typer(help="The MLflow experiment.  Example: `bench mlflow sync ptq_w4a4`", no_args_is_help=True)
data = typer.Typer(
    help="Data sets: fetch, clips of garments, frames of videos.  Example: `bench data fetch fashion_mnist`",
    no_args_is_help=True,
)


@measured.command("add")
def measured_add(
    suite: SuiteArg,
    store: StoreOpt = STORE,
    to: Annotated[Path, typer.Option("--to", help="Folder of measured records.")] = Path("suites/measured"),
) -> None:
    """Pack a suite's finished records, with one image grid per image set, into suites/measured/.

    Example: `bench measured add ptq_w4a4`
    """
    from bench.cli.info import add_measured

    path = add_measured(suite, store, to)
    out.print(f"packed into {path}", highlight=False)


@mlflow.command("sync")
def mlflow_sync(suite: SuiteArg, store: StoreOpt = STORE) -> None:
    """Log the store's records of a suite that MLflow does not hold yet.

    Example: `bench mlflow sync ptq_w4a4`
    """
    from bench.cli.info import sync_mlflow

    out.print(sync_mlflow(suite, store), highlight=False)


@data.command("fetch")
def data_fetch(
    dataset: Annotated[str, typer.Argument()] = "fashion_mnist",
    source: Annotated[Optional[Path], typer.Option("--from", help="Folder that holds the files.")] = None,  # noqa: UP045
) -> None:
    """Get a data set's full files: from a folder, Debian's package, or torchvision's download.

    Example: `bench data fetch fashion_mnist --from /data/fashion`
    """
    from bench.data.fetch import fetch

    out.print(f"{dataset}: {fetch(dataset, source)}", highlight=False)


@data.command("clips")
def data_clips(
    folder: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="[OUT]", help="Default: where `fashion_clips` is looked for."),
    ] = None,
) -> None:
    """Make the data set `fashion_clips`: clips of garments from the embedded images, 6,400 folders of PNG frames.

    Examples: `bench data clips` · `bench data clips /data/clips`, then `--data-root /data/clips`
    """
    from bench.data.fashion_clips import make_clips
    from bench.paths import cache_folder

    place = folder or cache_folder() / "fashion_clips"
    with _bar("frames") as report:
        count = make_clips(place, report)
    out.print(f"{count} clips in {place}", highlight=False)


@data.command("sample")
def data_sample(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder or tar file with SYNSET/*.jpg in it.")],
    folder: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="[OUT]", help="Default: where `imagenet_sample` is looked for."),
    ] = None,
) -> None:
    """Make the data set `imagenet_sample` of some images of ImageNet's training set: every fifth class for
    calibration, the others to measure on.

    Examples: `bench data sample sample.tar` · `bench data sample ILSVRC/some /data/sample`, then
    `--data-root /data/sample`
    """
    from bench.data.sample import make_sample
    from bench.paths import cache_folder

    place = folder or cache_folder() / "imagenet_sample"
    train, test = make_sample(images, place)
    out.print(f"{train} images for calibration, {test} for the test in {place}", highlight=False)


@data.command("frames")
@resumable()
def data_frames(
    videos: Annotated[Path, typer.Argument(metavar="VIDEOS", exists=True, file_okay=False)],
    to: Annotated[Path, typer.Argument(metavar="OUT")],
    fps: Annotated[Optional[float], typer.Option("--fps", min=0.001, help="Frames a second; default 4.")] = None,  # noqa: UP045
    every: Annotated[Optional[int], typer.Option("--every", min=1, help="Each so many-th frame instead.")] = None,  # noqa: UP045
    side: Annotated[int, typer.Option("--side", min=0, help="Shorter side in pixels at most; 0: as it is.")] = 256,
    split: Annotated[str, typer.Option("--split", help="Of videos that lie in VIDEOS/CLASS.")] = "train",
) -> None:
    """Decode video files (VIDEOS/SPLIT/CLASS/FILE or VIDEOS/CLASS/FILE) to frames and list files, by PyAV.

    The same command goes on where it was interrupted. A damaged file is left out and said at the end; exit code 1 then.
    The result is the data set `videofolder:OUT@SIZE`, or a named one with `--data-root OUT`.

    Examples: `bench data frames videos/ frames/` · `bench data frames clips/ frames/ --every 1 --split test`
    """
    from bench.data.video_files import Taken, extract

    if fps is not None and every is not None:
        raise BenchError("frames are taken by time or by number", where="--fps and --every", hint="Give one of them.")
    taken = Taken(None if every else fps or 4.0, every, side)
    with _bar("videos") as report:
        found = extract(videos, to, taken, split, report)
    for path, reason in found.failed:
        err.print(f"{path}: left out: {reason}", highlight=False)
    said = f"{found.made} videos decoded, {found.stood} stood already, {len(found.failed)} left out; frames in {to}"
    out.print(said, highlight=False)
    raise typer.Exit(1 if found.failed else 0)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; what moves it takes how many are done, and how many there are."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out) as bar:
        line = bar.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            bar.update(line, completed=done, total=total)

        yield report
