"""The one inventory of a network's weighted layers: what the engine counts and what methods wrap, cut into units or
prune (docs/methods/measures.md#inventory).  Imported by itself, as it needs torch.

A layer is a module object, so one registered under two names is one layer, called by the first of them.  It counts when
a forward of eval mode calls it.  The images are random, not zeros: a network may branch on what it sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

LAYERS = (_ConvNd, nn.Linear)
"""What is a weighted layer."""

_PRODUCTS, _SOFTMAX = "products of activations", "softmax"
_UNQUANTISED: Mapping[str, tuple[str, ...]] = {
    "bmm": (_PRODUCTS,),
    "mm": (_PRODUCTS,),
    "baddbmm": (_PRODUCTS,),
    "_softmax": (_SOFTMAX,),
    "native_layer_norm": ("layer normalisation",),
    "native_group_norm": ("group normalisation",),
    "_fused_rms_norm": ("RMS normalisation",),
}
_ATTENTION = "scaled_dot_product"
"""What torch's operations outside the layers are called that no quantiser of weights or layers' inputs reaches."""

_SEED = 20210917
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def probe_images(like: Tensor, count: int = 2) -> Tensor:
    """Standard normal images [count, C, H, W], always the same, of ``like``'s size, on its device and in its dtype."""
    generator = torch.Generator().manual_seed(_SEED + count)
    return torch.randn(count, *like.shape[1:], generator=generator).to(like)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode without autograd within; every submodule's own flag is restored after."""
    flags = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in flags.items():
            part.training = training


def has_hooks(module: nn.Module) -> bool:
    """Whether more runs than the class says when ``module`` is called: forward hooks, or a forward of its own."""
    return any(getattr(module, name, None) for name in _HOOKS) or "forward" in vars(module)


def is_plain_batch_norm(module: nn.Module | None) -> TypeGuard[_BatchNorm]:
    """Whether this is batch normalisation and nothing else, so that it may be folded: torch's own forward, no hooks."""
    return (
        isinstance(module, _BatchNorm)
        and type(module).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
        and type(module).__call__ is nn.Module.__call__
        and not has_hooks(module)
    )


@dataclass
class LayerUse:
    """A layer in one forward: MACs for one image (all calls together), the same with an output area that is not floored
    side by side (``legacy_macs``), calls, and whether a batch normalisation that can be folded reads its output."""

    module: nn.Module
    macs: int = 0
    legacy_macs: int = 0
    calls: int = 0
    shifted: bool = False


@dataclass
class Inventory:
    """What one forward used.

    Attributes:
        layers: by name, in the order of their first call.
        folded: normalisations whose input is the very tensor a layer returned.
        read: names of the parameters that the forward read.
        loose: names of those that an operation outside the layers multiplied by, such as a projection run by
            ``F.linear``; a layer's own name among them says that its weight is also used beside its calls.
        loose_macs: MACs for one image of those operations.
        unquantised: what else it computed outside the layers and without weights: products of activations and softmax
            (attention), layer, group and RMS normalisation.
    """

    layers: dict[str, LayerUse] = field(default_factory=dict)
    folded: list[nn.Module] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)
    loose_macs: int = 0
    unquantised: set[str] = field(default_factory=set)


def take_inventory(module: nn.Module, images: Tensor, names: Mapping[str, nn.Module] | None = None) -> Inventory:
    """Run ``images`` [N, C, H, W] through ``module`` in eval mode, which is left as it was, and note what it used.

    ``names`` says which layers are meant and how they are called; by default all, by their first names.
    """
    if names is None:
        names = {name: part for name, part in module.named_modules() if isinstance(part, LAYERS)}
    watch = _Watch(module, names, len(images))
    fused = torch.backends.mha.get_fastpath_enabled()
    # One operation for a whole attention block would hide what it multiplies.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with evaluating(module), watch:
            module(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        watch.close()
    return watch.found


class _Watch(TorchDispatchMode):
    """Hooks on layers and normalisations, and a look at every operation that runs outside the layers."""

    def __init__(self, module: nn.Module, names: Mapping[str, nn.Module], images: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = Inventory()
        self._images, self._depth = images, 0
        self._producer: dict[int, tuple[str, Tensor]] = {}  # holds the tensor, so its id is not given away again
        self._params: dict[int, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in module.named_parameters():
            if parameter.numel():
                self._params.setdefault(_place(parameter), []).append((name, parameter))
        first: dict[nn.Module, str] = {}
        for name, part in names.items():
            first.setdefault(part, name)
        self._hooks = []
        for part, name in first.items():
            self._hooks.append(part.register_forward_pre_hook(self._enter))
            self._hooks.append(part.register_forward_hook(self._leaver(name)))
        for part in module.modules():
            if is_plain_batch_norm(part):
                self._hooks.append(part.register_forward_pre_hook(self._normalised))

    def close(self) -> None:
        """Take the hooks off again."""
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        used = [p for x in _tensors((args, kwargs)) for p in self._params.get(_place(x), ())]
        self.found.read.update(name for name, _ in used)
        flops = flop_registry.get(getattr(func, "_overloadpacket", None))
        if not self._depth and flops is not None and any(p.dim() > 1 for _, p in used):
            self.found.loose.update(name for name, p in used if p.dim() > 1)
            self.found.loose_macs += flops(*args, **kwargs, out_val=out) // 2 // self._images
        elif not self._depth:
            self.found.unquantised.update(_unquantised(str(getattr(func, "_overloadpacket", ""))))
        return out

    def _enter(self, part: nn.Module, inputs: Any) -> None:
        self._depth += 1

    def _leaver(self, name: str) -> Any:
        def leave(part: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
            self._depth -= 1
            use = self.found.layers.setdefault(name, LayerUse(part))
            use.calls += 1
            macs = layer_macs(part, inputs, out)
            use.macs += macs // self._images
            use.legacy_macs += _legacy(part, inputs, out, macs) // self._images
            self._producer[id(out)] = (name, out)

        return leave

    def _normalised(self, part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        source = self._producer.get(id(inputs[0])) if inputs else None
        if source is not None:
            self.found.folded.append(part)
            self.found.layers[source[0]].shifted = True


def _unquantised(operation: str) -> tuple[str, ...]:
    """What an operation such as ``aten.bmm`` computes, as `Inventory.unquantised` has it."""
    name = operation.rpartition(".")[2]
    return (_PRODUCTS, _SOFTMAX) if _ATTENTION in name else _UNQUANTISED.get(name, ())


def layer_macs(part: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> int:
    """Multiply-accumulates of one call of a convolution or linear layer, its bias left out; of any other module 0."""
    if isinstance(part, _ConvTransposeNd) and inputs:
        # every input scalar meets the kernel once per output channel of its group
        return inputs[0].numel() * part.out_channels // part.groups * math.prod(part.kernel_size)
    if isinstance(part, _ConvNd):
        return out.numel() * (part.in_channels // part.groups) * math.prod(part.kernel_size)
    return out.numel() * part.in_features if isinstance(part, nn.Linear) else 0


def _legacy(part: nn.Module, inputs: tuple[Tensor, ...], out: Tensor, macs: int) -> int:
    """``macs`` of a call as scripts of EdMIPS' family count them: a convolution's output has the floor of the area that
    its sides would span without being floored themselves."""
    if not isinstance(part, _ConvNd) or isinstance(part, _ConvTransposeNd) or isinstance(part.padding, str):
        return macs
    geometry = zip(inputs[0].shape[2:], part.padding, part.dilation, part.kernel_size, part.stride, strict=True)
    sides = [(size + 2 * pad - gap * (kernel - 1) - 1) / stride + 1 for size, pad, gap, kernel, stride in geometry]
    return macs // math.prod(out.shape[2:]) * math.floor(math.prod(sides))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _place(x: Tensor) -> int:
    """Where a tensor's memory lies; views of a parameter lie where it does."""
    return x.untyped_storage().data_ptr() if x.layout is torch.strided and x.numel() else 0
