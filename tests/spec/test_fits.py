"""A network and a data set that do not fit are refused in the plan, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.errors import SuiteError
from bench.interfaces import DatasetSpec, NetworkInfo
from bench.spec.fits import check_fit
from bench.spec.plan import Plan, make_plan
from bench.spec.registry import Registry
from bench.spec.suite import load_suite
from tests.spec.conftest import ToyCatalogue

FOLDER = DatasetSpec("imagefolder:/x@32", 3, (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
FITS = NetworkInfo("timm:net", "0" * 64, (0.4,) * 3, (0.2,) * 3, classes=3, shape=(3, 32, 32))


def refused(info: NetworkInfo, dataset: DatasetSpec = FOLDER) -> SuiteError:
    with pytest.raises(SuiteError) as caught:
        check_fit(info, dataset, "s.yaml:7: grid.target[0]")
    assert caught.value.where == "s.yaml:7: grid.target[0]"
    return caught.value


def test_what_fits_passes_whatever_its_constants() -> None:
    check_fit(FITS, FOLDER, "")
    check_fit(replace(FITS, mean=(0.0,) * 3, std=(1.0,) * 3), FOLDER, "")
    check_fit(replace(FITS, classes=None, shape=None), FOLDER, "")  # nobody knows: nothing is compared


def test_all_that_differs_stands_in_one_error() -> None:
    error = refused(replace(FITS, classes=1000, shape=(3, 224, 224)))
    assert error.got == "timm:net takes images of 3×224×224, 1000 classes"
    assert error.expected == "images of 3×32×32, 3 classes, as imagefolder:/x@32 has"
    assert error.hint is not None
    assert "dataset: imagefolder:/x@224." in error.hint
    assert "bench zoo add timm:net FILE --classes 3 --data FOLDER." in error.hint
    assert "bench zoo add timm:net FILE --data FOLDER@32." in error.hint


@pytest.mark.parametrize("side", [96, 240, 256, 384])
def test_large_images_are_read_at_the_networks_size(side: int) -> None:
    imagenet = DatasetSpec("imagenet", 3, (3, 224, 224), (0.5,) * 3, (0.25,) * 3)
    info = replace(FITS, shape=(3, side, side))
    assert f"dataset: imagenet@{side}." in str(refused(info, imagenet).hint)
    check_fit(info, replace(imagenet, name=f"imagenet@{side}", shape=(3, side, side)), "")


def test_channels_and_sizes_that_cannot_be_changed() -> None:
    fashion = DatasetSpec("fashion_mnist", 3, (1, 32, 32), (0.2,), (0.3,))
    error = refused(FITS, fashion)
    assert error.hint == "It takes colour: image folders are read in three channels, grey images too " + (
        "(imagefolder:PATH@SIZE)."
    )
    grey = NetworkInfo("fashion_mnist/net", "0" * 64, (0.2,), (0.3,), classes=3, shape=(1, 28, 28))
    assert refused(grey, fashion).hint == "Choose a network that was trained on images of this size."
    assert "trained on these classes" in str(refused(replace(grey, classes=4, shape=(1, 32, 32)), fashion).hint)


@pytest.mark.parametrize("mean", [(0.5,), (0.5,) * 4, (0.5, 0.5, float("nan"))])
def test_constants_that_normalise_nothing(mean: tuple[float, ...]) -> None:
    assert "mean" in str(refused(replace(FITS, mean=mean)).got)
    assert "std" in str(refused(replace(FITS, std=(0.2, 0.0, 0.2))).got)


class World(ToyCatalogue):
    """Networks of a library that take colour and 1,000 classes, and one whose constants are its own."""

    def info(self, name: str) -> NetworkInfo:
        found = super().info(name)
        if name == "timm:colour":
            return replace(found, mean=(0.5,) * 3, std=(0.25,) * 3, classes=1000, shape=(3, 224, 224))
        return replace(found, classes=10, shape=(1, 8, 8))


@pytest.fixture
def plan(suite_file: Path, package: str) -> Callable[..., Plan]:
    """Plan of the toy suite, its claims left out, with ``set`` overrides."""
    world = World(Registry("sources", package), Registry("compressors", package))

    def make(overrides: dict[str, Any]) -> Plan:
        return make_plan(load_suite(suite_file, {"claims": [], **overrides}), catalogue=world)

    return make


@pytest.mark.parametrize(
    ("grid", "key"),
    [
        ({"grid.target": ["resnet_a", "timm:colour"]}, "grid.target[1]"),
        ({"grid.source": ["noise", {"kw": {"model": "timm:colour"}}]}, "grid.source[1]"),
        ({"grid.source": [{"mixmix": {"zoo": ["z1", "timm:colour"]}}]}, "grid.source[0]"),
        ({"grid.source": [{"dafl": {"zoo": ["timm:colour"]}}]}, "grid.source[0]"),
        ({"grid.source": [{"kw": {"student": "timm:colour"}}]}, "grid.source[0]"),
    ],
)
def test_every_network_that_is_to_see_images_is_compared(
    plan: Callable[..., Plan], grid: dict[str, Any], key: str
) -> None:
    with pytest.raises(SuiteError, match="does not fit the data set") as caught:
        plan({"grid.bits": ["W4A4"], **grid})
    assert key in str(caught.value.where)
    assert "timm:colour takes images of 3×224×224, 1000 classes" in str(caught.value)


def test_other_constants_are_no_obstacle(plan: Callable[..., Plan]) -> None:
    cells = plan({"grid.target": ["timm:grey"], "grid.bits": ["W4A4"]}).cells
    assert cells
    assert all(cell.not_applicable is None for cell in cells)
