"""Networks of timm and torchvision by name, with random weights, and what the libraries say of their input; those of
a user's factory go the same way.

Nothing is downloaded.  ``bench.zoo.brought`` keeps the weights a user brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import SuiteError, nearest
from bench.interfaces import DatasetSpec
from bench.zoo import factories
from bench.zoo.names import is_factory

if TYPE_CHECKING:
    from torch import nn

_SIDE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of a network whose library says nothing: ImageNet's."""

UNFIT = (RuntimeError, AssertionError, ValueError, TypeError, LookupError)
"""What networks raise over images that do not fit them; each library and family has its own way."""


@dataclass(frozen=True)
class InputSpec:
    """What a network takes: images of ``shape`` (C, H, W), normalised by ``mean`` and ``std`` per channel."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def create(name: str, classes: int | None = None) -> nn.Module:
    """The library's or the factory's network with random weights of a fixed seed; a library's with a head of so many
    ``classes`` where they are given.

    Raises:
        SuiteError: there is no such network; a factory is asked for a number of classes.
    """
    import torch

    if is_factory(name):
        if classes is not None:
            raise SuiteError("a function decides itself how many classes its network has", where=name, got=classes)
        return factories.create(name)
    library, short = name.split(":", 1)
    head = {} if classes is None else {"num_classes": classes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: nn.Module = _create(library, short, **head)
    return module


def input_of(name: str, module: nn.Module) -> InputSpec:
    """What the library's own configuration says of the input of ``module``, the network ``name``: timm's pretrained
    configuration, or the transforms of torchvision's default weights.  Of a factory's network nothing is known, and
    ImageNet's stand there."""
    if is_factory(name):
        return InputSpec((3, _SIDE, _SIDE), _MEAN, _STD)
    library, short = name.split(":", 1)
    return _timm_input(module) if library == "timm" else _torchvision_input(short, module)


def _timm_input(module: nn.Module) -> InputSpec:
    known: Any = getattr(module, "pretrained_cfg", None) or {}
    channels, height, width = known.get("input_size") or (3, _SIDE, _SIDE)
    mean, std = (tuple(float(v) for v in known.get(key) or usual) for key, usual in (("mean", _MEAN), ("std", _STD)))
    return InputSpec((channels, height, width), mean, std)


def _torchvision_input(short: str, module: nn.Module) -> InputSpec:
    from torchvision import models

    weights: Any = models.get_model_weights(short)
    side, mean, std = _SIDE, _MEAN, _STD
    if len(weights):
        transforms = weights.DEFAULT.transforms()
        side, mean, std = transforms.crop_size[0], tuple(transforms.mean), tuple(transforms.std)
    # Built without weights, a network may have a size of its own that the default weights do not share.
    side = getattr(module, "image_size", side)
    return InputSpec((3, side, side), mean, std)


def build(name: str, classes: int, channels: int) -> nn.Module:
    """The library's network for another number of classes and channels, drawn from torch's global generator.

    Raises:
        SuiteError: the library has no such network, or cannot build it so.
    """
    check_build(name, channels)
    library, short = name.split(":", 1)
    channelled = {"in_chans": channels} if library == "timm" else {}
    module: nn.Module = _create(library, short, num_classes=classes, **channelled)
    return module


def check_build(name: str, channels: int, where: str | None = None) -> None:
    """Whether :func:`build` can, without building; the library is asked for its names once per version.

    Raises:
        SuiteError: the library has no such network, or it cannot have so many channels; ``where`` says who asked.
    """
    from bench.zoo.seen import read_names, write_names

    library, short = name.split(":", 1)
    if _bare(library, short) not in read_names(library):
        write_names(library, _checked(library, short, where))
    if library == "torchvision" and channels != 3:
        raise SuiteError(
            "torchvision's networks take three channels",
            where=where,
            got=f"{channels} for {name}",
            hint="timm's networks take any number.",
        )


def check_student(name: str, dataset: DatasetSpec, where: str | None = None) -> None:
    """Whether :func:`build` makes a network for the images of ``dataset``: built and run once per version.

    Raises:
        SuiteError: no such network, a factory's, or none for so many channels or images of this size; ``where`` says
            who asked.
    """
    if is_factory(name):
        # A cell's id holds a student's name alone, and the code behind this one may change.
        raise SuiteError("a student is a network of the table or a library's", where=where, got=name)
    check_build(name, dataset.channels, where)
    from bench.zoo.seen import read_student, write_student

    library, shape = name.split(":", 1)[0], (dataset.channels, *dataset.shape[1:])
    if read_student(library, name, dataset.classes, shape):
        return
    import torch

    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            module = build(name, dataset.classes, dataset.channels)
            module.eval()(torch.zeros(1, *shape))
    except UNFIT as error:
        raise SuiteError(
            "this network cannot be built for the data set's images",
            where=where,
            got=f"{name} for images of {'×'.join(map(str, shape))}: {error}",
            hint="Choose a network that takes any size, or images of its own size.",
        ) from error
    write_student(library, name, dataset.classes, shape)


def _bare(library: str, short: str) -> str:
    """The name in the library's list: timm's without the tag of its weights."""
    return short.split(".")[0] if library == "timm" else short


def _checked(library: str, short: str, where: str | None = None) -> list[str]:
    """The names of all networks of the library, ``short`` among them.

    Raises:
        SuiteError: it is not.
    """
    names: list[str]
    if library == "timm":
        import timm

        names = timm.list_models()
    else:
        from torchvision import models

        names = models.list_models(module=models)
    if _bare(library, short) not in names:
        raise SuiteError(f"{library} has no such network", where=where, got=short, nearest=nearest(short, names))
    return names


def _create(library: str, short: str, **options: int) -> Any:
    _checked(library, short)
    if library == "timm":
        import timm

        return timm.create_model(short, pretrained=False, **options)
    from torchvision import models

    return models.get_model(short, weights=None, **options)
