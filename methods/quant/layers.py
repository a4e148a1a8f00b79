"""Which modules and functions count as what, and the module that stands for a quantised layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bench.interfaces.inventory import has_hooks
from methods.quant.quantizers import ActQuantizer, WeightQuantizer
from methods.quant.sizes import is_size


def names(text: str) -> frozenset[str]:
    """The blank-separated words of ``text``."""
    return frozenset(text.split())


WEIGHTED = (nn.Conv2d, nn.Linear)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_DROPS = frozenset({"DropPath", "StochasticDepth", "DropBlock2d", "PatchDropout", "TokenDropout"})
_ACT_MODULES = (nn.PReLU, nn.RReLU, nn.Softplus, nn.GLU, nn.Softmax)
_ACT_NAMES = names(
    "ReLU ReLU6 LeakyReLU ELU SELU CELU GELU GELUTanh SiLU Swish Mish Sigmoid Tanh Hardswish HardSwish "
    "HardSwishMe HardSwishJit Hardsigmoid HardSigmoid HardMish Hardtanh Softplus Softsign PReLU QuickGELU SwishMe "
    "SwishJit MishMe HardSigmoidMe HardSigmoidJit StarReLU"
)
_NONNEGATIVE_NAMES = names("ReLU ReLU6 Sigmoid Hardsigmoid HardSigmoid HardSigmoidMe HardSigmoidJit Softmax")
_ACT_FUNCTIONS = names(
    "relu relu6 relu_ leaky_relu elu selu gelu silu mish sigmoid tanh hardswish hardsigmoid hardtanh softplus "
    "hard_sigmoid hard_swish clamp clip"
)
_NONNEGATIVE_FUNCTIONS = names("relu relu6 relu_ sigmoid hardsigmoid hard_sigmoid softmax")
_POOL_FUNCTIONS = names(
    "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d mean max_pool2d_with_indices boolean_dispatch amax"
)
_GLOBAL_POOL_FUNCTIONS = frozenset(["adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "amax"])
_SHAPE_FUNCTIONS = names(
    "flatten reshape view permute transpose contiguous chunk split getitem cat concat stack unbind squeeze "
    "unsqueeze dropout pad interpolate expand roll channel_shuffle channels_last repeat unflatten narrow "
    "expand_as index_select alpha_dropout dropout2d clone detach to type_as float movedim swapaxes T"
)

_PRODUCT_FUNCTIONS = names("matmul bmm baddbmm einsum scaled_dot_product_attention")


def module_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module a ``call_module`` node calls, else None."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def function_name(node: fx.Node) -> str:
    """Name of the function or method a node calls, "" for other nodes."""
    if node.op == "call_method":
        return str(node.target).rstrip("_") if str(node.target) != "relu_" else "relu"
    if node.op == "call_function":
        target = cast("Callable[..., Any]", node.target)
        return str(getattr(target, "__name__", ""))
    return ""


def is_weighted(module: nn.Module | None) -> bool:
    """Whether this is a convolution or linear layer, bare or quantised."""
    return isinstance(module, (*WEIGHTED, QuantLayer))


def is_drop(module: nn.Module) -> bool:
    """Whether the module does nothing in eval mode (dropout, stochastic depth)."""
    return isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ in _DROPS


def is_activation(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node is a nonlinearity of one tensor."""
    module = module_of(graph, node)
    if module is not None:
        return isinstance(module, _ACT_MODULES) or type(module).__name__ in _ACT_NAMES
    return function_name(node) in _ACT_FUNCTIONS


def is_nonnegative(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node's values come from a ReLU, ReLU6, sigmoid, softmax or a pooling or reshaping of such."""
    module = module_of(graph, node)
    if module is not None:
        if isinstance(module, nn.Hardtanh) and module.min_val >= 0:
            return True
        if type(module).__name__ in _NONNEGATIVE_NAMES:
            return True
    elif function_name(node) in _NONNEGATIVE_FUNCTIONS:
        return True
    sources = tensor_inputs(node)
    return is_transparent(graph, node) and bool(sources) and all(is_nonnegative(graph, s) for s in sources)


def is_norm(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node is a normalisation module or function."""
    module = module_of(graph, node)
    if module is not None:
        return isinstance(module, NORMS) or "Norm" in type(module).__name__
    return function_name(node) in ("batch_norm", "layer_norm", "group_norm", "rms_norm")


def is_pool(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node pools over space."""
    module = module_of(graph, node)
    if module is not None:
        return "Pool" in type(module).__name__ and not is_opaque(module)
    return function_name(node) in _POOL_FUNCTIONS


def is_max_pool(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node takes maxima over space."""
    module = module_of(graph, node)
    name = type(module).__name__ if module is not None else function_name(node) or ""
    return is_pool(graph, node) and "max" in name.lower()


def is_global_pool(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node pools each map to one value, as `F.avg_pool2d(x, 8)` does to maps of 8 by 8.

    Shapes decide where they are recorded (`methods.quant.trace.record_kinds`), names elsewhere.
    """
    if not is_pool(graph, node):
        return False
    shape = node.meta.get("shape")
    if shape is not None:
        # [N, C], [N, C, 1, 1] or, channels last, [N, 1, 1, C]
        return len(shape) == 2 or (len(shape) == 4 and (shape[2:] == (1, 1) or shape[1:3] == (1, 1)))
    module = module_of(graph, node)
    if module is not None:
        return "Adaptive" in type(module).__name__ or "Global" in type(module).__name__
    return function_name(node) in _GLOBAL_POOL_FUNCTIONS


def is_add(node: fx.Node) -> bool:
    """Whether the node adds two tensors."""
    return function_name(node) == "add" and len(tensor_inputs(node)) == 2


def is_mul(node: fx.Node) -> bool:
    """Whether the node multiplies two tensors."""
    return function_name(node) == "mul" and len(tensor_inputs(node)) == 2


def is_product(node: fx.Node) -> bool:
    """Whether the node multiplies tensors as matrices, as attention does, or scales them to unit length for that."""
    name = function_name(node)
    return (name in _PRODUCT_FUNCTIONS and len(tensor_inputs(node)) > 1) or name == "normalize"


def is_transparent(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether quantised values stay (nearly) quantised: poolings, reshapes, slices, concatenations, dropout."""
    if is_pool(graph, node) or function_name(node) in _SHAPE_FUNCTIONS:
        return True
    module = module_of(graph, node)
    return module is not None and (
        isinstance(module, (nn.Identity, nn.Flatten, nn.Unflatten, nn.ZeroPad2d, nn.Upsample, nn.ChannelShuffle))
        or type(module).__name__ in ("Permute", "BlurPool2d")
        or is_drop(module)
    )


def canonical_layers(net: nn.Module) -> dict[nn.Module, str]:
    """Weighted layers of ``net``, bare or quantised, by identity, each with the first name it is registered under."""
    inside = {part.layer for part in net.modules() if isinstance(part, QuantLayer)}
    return {part: name for name, part in net.named_modules() if is_weighted(part) and part not in inside}


def inner_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Weighted layers called as modules inside ``module``, by name. `nn.MultiheadAttention` reads its projections'
    weights without calling them, so those stay out (and in floating point)."""
    found: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        if is_weighted(child):
            found[name] = child
        elif not isinstance(child, nn.MultiheadAttention):
            found.update({f"{name}.{inner}": layer for inner, layer in inner_layers(child).items()})
    return found


def is_opaque(module: nn.Module) -> bool:
    """Whether a leaf of the trace holds weighted layers that the graph does not show."""
    if is_weighted(module) or isinstance(module, nn.MultiheadAttention):
        return False
    return bool(inner_layers(module))


def node_layers(graph: fx.GraphModule, node: fx.Node) -> tuple[str, ...]:
    """Names of the weighted layers a node calls, in registration order; () for most nodes."""
    known: tuple[str, ...] | None = node.meta.get("layers")
    if known is not None:
        return known
    module = module_of(graph, node)
    if module is None:
        return ()
    if is_weighted(module):
        return (str(node.target),)
    return tuple(f"{node.target}.{name}" for name in inner_layers(module)) if is_opaque(module) else ()


def is_constant(node: fx.Node) -> bool:
    """Whether the node depends on parameters, buffers and sizes only, not on the images."""
    known: bool | None = node.meta.get("constant")
    if known is None:
        sources = node.all_input_nodes
        made = node.op in ("call_function", "call_method", "call_module") and bool(sources)
        known = node.op == "get_attr" or is_size(node) or (made and all(is_constant(s) for s in sources))
    return known


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """The nodes whose tensors ``node`` reads, in the order of its arguments: no sizes, parameters or buffers."""
    return [source for source in node.all_input_nodes if not is_constant(source)]


def is_affine(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node only scales or shifts by parameters or numbers (layer scale, position embedding)."""
    module = module_of(graph, node)
    if module is not None:
        return "LayerScale" in type(module).__name__
    return function_name(node) in ("add", "sub", "mul", "div", "truediv") and len(tensor_inputs(node)) == 1


def is_weighted_node(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node calls a weighted layer or a leaf that holds some."""
    module = module_of(graph, node)
    return module is not None and (is_weighted(module) or is_opaque(module))


class LayerFace(nn.Module):
    """Base of what stands in a layer's place: shows that layer's attributes (in_features, kernel_size, bias…) to code
    that calls a layer and asks it things as well."""

    layer: nn.Module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("layer", "parametrizations") or name.startswith("__"):  # torch would take these for its own
                raise
            return getattr(super().__getattr__("layer"), name)


class QuantLayer(LayerFace):
    """A convolution or linear layer whose weight goes through a quantiser; ``input_quant`` quantises its input where
    the graph cannot (module replacement). Padding, groups, hooks and subclasses' own forwards stay as they are."""

    layer: nn.Conv2d | nn.Linear

    def __init__(self, layer: nn.Conv2d | nn.Linear, quant: WeightQuantizer) -> None:
        super().__init__()
        self.layer = layer
        self.quant = quant
        self.input_quant: ActQuantizer | None = None

    @property
    def weight(self) -> Tensor:
        """The weight in use: what the quantiser makes of the layer's."""
        used: Tensor = self.quant(self.layer.weight)
        return used

    def forward(self, x: Tensor) -> Tensor:
        if self.input_quant is not None:
            x = self.input_quant(x)
        layer = self.layer
        if type(layer) is nn.Linear and not has_hooks(layer):
            return F.linear(x, self.weight, layer.bias)
        if type(layer) is nn.Conv2d and not has_hooks(layer):
            convolved: Tensor = layer._conv_forward(x, self.weight, layer.bias)
            return convolved
        out: Tensor = torch.func.functional_call(layer, {"weight": self.weight}, (x,))
        return out
