"""What the networks of an image set say of it: through own readings, the record and the run's log."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from bench.interfaces import ImageBatch, MethodParams
from bench.run import session
from bench.run.readings import IMAGES, own_readings
from bench.run.tasks import Settings
from bench.run.worker import Bench
from bench.spec.jobs import SynthJob
from bench.spec.resolved import ResolvedSource
from bench.store.image_gate import ImageGate, OwnReading, judged
from tests import pick

from .conftest import inverting_suite

NETWORKS = ("fashion_mnist/resnet18_w10", "fashion_mnist/vgg_bn_w12")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Settings(str(tmp_path_factory.mktemp("store"))))


@pytest.fixture(scope="module")
def real(bench: Bench) -> tuple[Tensor, Tensor]:
    """128 training images and their labels: the best inversion there can be."""
    dataset = bench.dataset("fashion_mnist")
    split, picks = dataset.train(), torch.arange(128)
    return dataset.normalised_at(split, picks), torch.from_numpy(split.labels)[picks]


def job(bench: Bench, **source: object) -> SynthJob:
    given: dict[str, object] = {"control": "none", "label_kind": "assigned", "access": "T2a", "batch_size": 128}
    resolved = ResolvedSource("m", "m", 1, MethodParams(), {}, **(given | source))  # type: ignore[arg-type]
    spec = bench.dataset("fashion_mnist").spec
    return SynthJob("0" * 16, resolved, "", NETWORKS, (), None, None, spec, "fashion_mnist", 0, 128, 1, "mini")


def read(bench: Bench, batch: ImageBatch, asked: SynthJob) -> list[OwnReading]:
    return [OwnReading.model_validate(raw) for raw in own_readings(bench, asked, batch)]


def verdict(bench: Bench, batch: ImageBatch, asked: SynthJob) -> ImageGate:
    found = judged([{"inversion": own_readings(bench, asked, batch)}])
    assert found is not None
    return found


def test_real_images_pass_noise_and_wrong_labels_do_not(bench: Bench, real: tuple[Tensor, Tensor]) -> None:
    images, labels = real
    good = verdict(bench, ImageBatch(images, labels), job(bench))
    assert good.top1 is not None
    assert good.bn_share is not None
    assert good.top1 > 90
    assert good.bn_share < 0.3
    assert not good.flagged
    wrong = verdict(bench, ImageBatch(images, (labels + 1) % 10), job(bench))
    assert wrong.flagged
    assert wrong.bn_share == good.bn_share
    noise = verdict(bench, ImageBatch(torch.randn(images.shape)), job(bench, label_kind="none"))
    assert noise.flagged
    assert noise.top1 is None
    assert noise.bn_share == pytest.approx(1, abs=0.1)


def test_the_networks_are_the_batchs_own(bench: Bench, real: tuple[Tensor, Tensor]) -> None:
    images, labels = real
    for said, expected in (([NETWORKS[1]], NETWORKS[1:]), ([], NETWORKS), (["another"], NETWORKS)):
        found = read(bench, ImageBatch(images, labels, info={"models": said}), job(bench))
        assert tuple(reading.network for reading in found) == expected
    assert all(reading.n == reading.labelled == 128 for reading in found)


def test_a_mixture_of_classes_has_no_top1(bench: Bench, real: tuple[Tensor, Tensor]) -> None:
    images, labels = real
    soft = torch.nn.functional.one_hot(labels, 10).float()
    soft[64:] = 0.5 * soft[64:] + 0.05
    found = read(bench, ImageBatch(images, labels, soft), job(bench))
    assert {reading.labelled for reading in found} == {64}
    assert all(reading.top1 is not None and reading.top1 > 90 for reading in found)
    none = read(bench, ImageBatch(images, labels, torch.full((128, 10), 0.1)), job(bench))
    assert [(reading.labelled, reading.top1) for reading in none] == [(0, None)] * 2


def test_labels_that_nobody_asked_for_are_not_held_against_it(bench: Bench, real: tuple[Tensor, Tensor]) -> None:
    images, labels = real
    assert read(bench, ImageBatch(images, labels), job(bench, label_kind="pseudo"))[0].top1 is None


@pytest.mark.parametrize("declared", [{"control": "lower"}, {"access": "T3"}, {"access": "T5", "control": "upper"}])
def test_controls_are_not_read(bench: Bench, real: tuple[Tensor, Tensor], declared: dict[str, str]) -> None:
    assert own_readings(bench, job(bench, **declared), ImageBatch(*real)) == []


def test_images_in_other_constants_are_read_in_the_networks_own(bench: Bench, real: tuple[Tensor, Tensor]) -> None:
    asked = job(bench)
    mean, std = asked.dataset.mean[0], asked.dataset.std[0]
    other = replace(asked, dataset=replace(asked.dataset, mean=(0.0,), std=(1.0,)))
    plain = read(bench, ImageBatch(*real), asked)
    pixels = read(bench, ImageBatch(real[0] * std + mean, real[1]), other)
    for one, same in zip(plain, pixels, strict=True):
        assert one.top1 == same.top1
        assert one.bn_loss == pytest.approx(same.bn_loss, rel=1e-3)
    assert IMAGES <= 256


def test_a_failed_synthesis_is_told_in_record_and_log(suite: Path, tmp_path: Path) -> None:
    name = pick.name("sources", models="one", label_kind="assigned", needs="bn", params=("iterations", "batch"))
    row = pick.values("sources", name, iterations=1, batch=32, images=32)
    suite.write_text(inverting_suite(row))
    console = Console(file=io.StringIO(), width=400)
    options = session.Options(suite=str(suite), store=tmp_path / "store", workers=0, tracker="none")
    records = {record.source_method: record for record in session.run(options, console)[1]}
    gate = records[name].image_gate
    assert gate is not None
    assert gate.flagged
    assert gate.n == 32
    assert records[pick.LOWER].image_gate is None
    cost = records[name].costs["synthesis"]
    assert cost.macs == cost.forward_equivalents * records[name].metrics["macs"]  # type: ignore[operator]
    said = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line for line in said.splitlines() if "do not invert" in line]
    assert len(lines) == 1
    assert name in lines[0]
    assert f"own BN loss {gate.bn_share:.2f} of that of noise" in lines[0]
