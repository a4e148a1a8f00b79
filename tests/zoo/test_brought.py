"""Weights with a head of the user's own, for the user's own images: registered, planned, run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from bench.cli.app import app
from bench.data.datasets import get_dataset
from bench.errors import BenchError, DataError, SuiteError, WeightsError
from bench.run import session
from bench.zoo.bring import Own, bring
from bench.zoo.libraries import check_student, create
from bench.zoo.targets import info, load
from tests import pick

NAME = "timm:test_resnet"
FIXED = "timm:vit_tiny_patch16_224"
COLOURS = {"blue": (20, 30, 200), "green": (20, 190, 40), "red": (210, 20, 30)}
SIDE = 64


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes, four images each, and a cache folder of the test's own."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    root = tmp_path / "images"
    for split in ("train", "test"):
        for name, (red, green, blue) in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                image = Image.new("RGB", (80, 70), (red + 9 * i, green + 5 * i, blue - 9 * i))
                image.save(root / split / name / f"{i}.png")
    return root


@pytest.fixture
def trained(images: Path, tmp_path: Path) -> Path:
    """Random features and a head of three classes fitted to the training images, as a training leaves it."""
    module = create(NAME, 3).eval()
    takes = info(NAME)
    data = get_dataset(f"imagefolder:{images}@{SIDE}")
    split = data.train()
    pixels = torch.from_numpy(split.read(torch.arange(12).numpy())).float() / 255
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (takes.mean, takes.std))
    head = module.get_classifier()
    with torch.no_grad():
        features = module.forward_head(module.forward_features((pixels - mean) / std), pre_logits=True)
        design = torch.cat([features, torch.ones(12, 1)], dim=1)
        targets = torch.eye(3)[torch.from_numpy(split.labels)]
        solution = torch.linalg.pinv(design) @ targets
        head.weight.copy_(solution[:-1].T)
        head.bias.copy_(solution[-1])
    state = {f"module.{key}": value for key, value in module.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 9}, tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def suite(folder: Path, dataset: str) -> str:
    path = folder / "own.yaml"
    path.write_text(f"""
suite: own
version: 1
dataset: "{dataset}"
grid: {{source: [{{{pick.UPPER}: {{batch: 6}}}}], target: ["{NAME}"], compressor: [{pick.ROUND}], bits: [W8A8]}}
images: 6
seeds: [0]
""")
    return str(path)


def test_a_network_of_the_users_own_is_registered_planned_and_run(images: Path, trained: Path, tmp_path: Path) -> None:
    pick.need_small_runs()
    options = session.Options(
        suite=suite(tmp_path, f"imagefolder:{images}@{SIDE}"), store=tmp_path / "store", workers=0, tracker="none"
    )
    with pytest.raises(SuiteError, match="does not fit the data set") as caught:
        session.run(options, Console(quiet=True))
    assert "1000 classes" in str(caught.value)
    assert f"bench zoo add {NAME} FILE --classes 3 --data FOLDER" in str(caught.value)
    assert not (tmp_path / "store").exists()  # before the first second of compute

    words = ["zoo", "add", NAME, str(trained), "--classes", "3", "--data", f"{images}@{SIDE}"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    known = info(NAME)
    assert (known.classes, known.shape, known.fp_top1) == (3, (3, SIDE, SIDE), 100.0)
    assert load(NAME).digest == known.digest
    assert load(NAME).module(torch.zeros(1, 3, SIDE, SIDE)).shape == (1, 3)

    (record,) = session.run(options, Console(quiet=True))[1]
    assert record.status == "ok", record.reason
    assert record.metrics["fp_top1"] == 100.0
    assert record.metrics["top1"] == 100.0
    assert record.test_count == 12


def test_what_does_not_fit_is_refused_and_leaves_nothing(images: Path, trained: Path) -> None:
    for own, kind, said in (
        (Own(None, f"{images}@{SIDE}"), WeightsError, "--classes 3 --data FOLDER"),
        (Own(3, f"{images.parent}@{SIDE}"), DataError, "no image folder here"),
        (Own(5, f"{images}@{SIDE}"), WeightsError, "--classes 3"),
    ):
        with pytest.raises(kind, match=said):
            bring(NAME, trained, own=own)
    (images / "train" / "violet").mkdir()
    with pytest.raises(DataError, match="other classes than the network") as caught:
        bring(NAME, trained, own=Own(3, f"{images}@{SIDE}"))
    assert "got: 4 classes" in str(caught.value)
    assert info(NAME).classes == 1000


def test_without_images_a_head_is_registered_unmeasured(images: Path, trained: Path) -> None:
    assert bring(NAME, trained, own=Own(3))["top1"] is None
    assert (info(NAME).classes, info(NAME).fp_top1) == (3, None)


def test_a_size_the_network_cannot_take_is_refused(images: Path, tmp_path: Path) -> None:
    """A transformer's positions are made for one size: what its library says."""
    name = FIXED
    torch.save(create(name, 3).state_dict(), tmp_path / "vit.pth")
    with pytest.raises(SuiteError, match="does not run on images of this size") as caught:
        bring(name, tmp_path / "vit.pth", own=Own(3, f"{images}@96"))
    assert "3×224×224" in str(caught.value)
    made = bring(name, tmp_path / "vit.pth", own=Own(3, str(images)))
    assert made["shape"] == [3, 224, 224]
    assert made["mean"] == [0.5, 0.5, 0.5]
    assert made["top1"] is not None


def test_the_trainings_own_constants(images: Path, trained: Path) -> None:
    words = ["zoo", "add", NAME, str(trained), "--classes", "3", "--mean", "0.5,0.5,0.25", "--std", "1,1,0.5"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    assert (info(NAME).mean, info(NAME).std) == ((0.5, 0.5, 0.25), (1.0, 1.0, 0.5))
    assert (load(NAME).mean, load(NAME).std) == (info(NAME).mean, info(NAME).std)


@pytest.mark.parametrize(
    "given", [("--mean", "0.5,0.5"), ("--mean", "a,b,c"), ("--std", "0,1,1"), ("--std", "nan,1,1")]
)
def test_constants_that_are_none_are_refused(given: tuple[str, str]) -> None:
    with pytest.raises(BenchError, match="no constants of an image's channels") as caught:
        CliRunner().invoke(app, ["zoo", "add", NAME, "x.pth", *given], catch_exceptions=False)
    assert caught.value.where == given[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("timm:vit_tiny_patch16_384", 384),
        ("timm:swinv2_tiny_window8_256", 256),
        ("timm:crossvit_9_240", 240),
        ("timm:tinynet_e", 106),
        ("torchvision:inception_v3", 299),
        ("torchvision:vit_b_16", 224),
    ],
)
def test_a_networks_size_is_its_librarys(name: str, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert info(name).shape == (3, side, side)
    assert load(name).macs == info(name).macs


def test_a_student_is_tried_on_the_data_sets_images(images: Path) -> None:
    data = get_dataset(f"imagefolder:{images}@{SIDE}").spec
    check_student(NAME, data)
    with pytest.raises(SuiteError, match="cannot be built for the data set's images") as caught:
        check_student(FIXED, data, "s.yaml:3: grid.student[0]")
    assert caught.value.where == "s.yaml:3: grid.student[0]"
    check_student(FIXED, get_dataset(f"imagefolder:{images}@224").spec)
