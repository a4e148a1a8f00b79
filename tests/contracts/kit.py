"""What the contracts of all kinds share: names from the registry, small parameters, declarations, comparisons."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from bench.data.datasets import Dataset
from bench.data.splits import ArraySplit
from bench.errors import NotApplicable
from bench.interfaces import DatasetSpec, MethodParams, ModelHandle, Preset
from bench.spec.entries import OPTIONS
from bench.spec.registry import Registry, params_json, resolve_params

PRESETS: tuple[Preset, ...] = ("mini", "thorough", "paper")


SMALL = {
    "iterations": 3,
    "steps": 3,
    "epochs": 1,
    "rounds": 1,
    "sweeps": 1,
    "runs": 1,
    "trials": 4,
    "warmup": 1,
    "batch": 8,
    "images": 8,
    "samples": 8,
    "calibration": 8,
    "values": 8,
    "width": 8,
    "latent": 8,
}
"""Last word of a parameter's name → how little of it does in a test.  A new word for a budget is one entry here."""


@dataclass(frozen=True)
class Case:
    """A method under its contract."""

    name: str
    method: Any

    @cached_property
    def params(self) -> Any:
        """Small ones."""
        return small(self.method)


Check = Callable[[Any], None]


def installed(kind: str) -> tuple[str, ...]:
    """Names of all methods of a kind; none while the kind has no folder."""
    return Registry(kind).names() if importlib.util.find_spec(f"methods.{kind}") else ()


def small(method: Any) -> MethodParams:
    """The preset ``mini`` with every budget lowered as far as the method's own bounds allow."""
    found = resolve_params(method, "mini", {})
    for name, value in params_json(found).items():
        least = SMALL.get(name.rpartition("_")[2])
        if least is None or type(value) not in (int, float):
            continue
        while least < value:
            lower = _changed(found, name, least)
            if lower is not None:
                found = lower
                break
            least *= 2
    return found


def _changed(params: MethodParams, name: str, value: int) -> MethodParams | None:
    """``params`` with one value changed, None where they do not allow it."""
    text = json.dumps({**params_json(params), name: value})
    try:
        return type(params).model_validate_json(text, strict=True)
    except ValidationError:
        return None


def serves(method: Any, params: Any, given: Any) -> bool:
    """Whether ``check`` lets a network (or several) pass; a refusal says why."""
    try:
        method.check(params, given)
    except NotApplicable as error:
        if not error.what.strip():
            raise AssertionError("not applicable, without a reason") from error
        return False
    return True


def check_declaration(method: Any, protocol: type) -> None:
    """Every attribute of the Protocol is there and of its type, every method takes what the Protocol's takes."""
    for name, hint in typing.get_type_hints(protocol).items():
        assert hasattr(method, name), f"{name} is not declared"
        try:
            TypeAdapter(hint).validate_python(getattr(method, name), strict=True)
        except ValidationError as error:
            raise AssertionError(f"{name} is no {hint}: {error}") from error
    for name, function in _functions(protocol):
        own = getattr(method, name, None)
        assert callable(own), f"{name} is missing"
        given = [object()] * (len(inspect.signature(function).parameters) - 1)
        try:
            inspect.signature(own).bind(*given)
        except TypeError as error:
            raise AssertionError(f"{name} does not take {len(given)} arguments: {error}") from error
    assert method.version >= 1
    for text in (method.summary, method.paper):
        assert text.strip(), "summary and paper say something"
        assert "\n" not in text, "summary and paper are one line"
    assert set(method.presets) == set(PRESETS)
    for preset in PRESETS:
        resolve_params(method, preset, {})  # strict
    try:
        method.Params(no_such_switch=1)
    except ValidationError:
        return
    raise AssertionError("Params takes an unknown key")


def check_options(method: Any, axis: str) -> None:
    """No parameter has the name of a row's own option, which would hide it from suites."""
    hidden = set(method.Params.model_fields) & set(OPTIONS[axis])
    assert not hidden, f"a suite cannot set {', '.join(sorted(hidden))}: that is an option of the row"


def _functions(protocol: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for base in protocol.__mro__:
        if getattr(base, "_is_protocol", False):
            yield from ((n, f) for n, f in vars(base).items() if inspect.isfunction(f) and not n.startswith("_"))


def state(module: nn.Module) -> dict[str, object]:
    """All that a method must leave as it was: weights and buffers bit for bit, flags, gradients, hooks, attributes."""
    found: dict[str, object] = {}
    for name, part in module.named_modules():
        plain = {k: v for k, v in vars(part).items() if isinstance(v, bool | int | float | str | tuple | None)}
        hooks = {k: len(v) for k, v in vars(part).items() if "hooks" in k and hasattr(v, "__len__")}
        found[f"module {name}"] = (id(part), type(part), sorted(vars(part)), plain, hooks)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        grad = None if value.grad is None else checksum(value.grad)
        found[name] = (id(value), checksum(value), value.dtype, value.requires_grad, grad)
    return found


def checksum(value: torch.Tensor) -> str:
    """SHA-256 of a tensor's shape and bytes."""
    flat = value.detach().cpu().contiguous()
    return hashlib.sha256(f"{tuple(flat.shape)}".encode() + flat.numpy().tobytes()).hexdigest()


def bits_of(value: Any) -> Any:
    """A result with its tensors and networks replaced by checksums, for comparison."""
    if isinstance(value, torch.Tensor):
        return checksum(value)
    if isinstance(value, nn.Module):
        return {name: checksum(part) for name, part in value.state_dict().items()}
    if isinstance(value, dict):
        return {name: bits_of(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [bits_of(part) for part in value]
    return value


def check_json(value: Any, what: str) -> None:
    """``value`` is JSON without NaN."""
    try:
        json.dumps(value, allow_nan=False, default=dict)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} is no JSON: {error}") from error


def built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """What ``build`` makes from this seed; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def frozen(module: nn.Module, name: str, dataset: DatasetSpec) -> ModelHandle:
    """A network as the engine hands it over."""
    module.eval().requires_grad_(False)
    return ModelHandle(name, module, name, "toy", "toy", 1000, dataset.name, dataset.mean, dataset.std)


def toy_data(spec: DatasetSpec, seed: int = 0) -> Dataset:
    """256 images of noise, each class as often; the test split must not be read."""

    def train() -> ArraySplit:
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(256, (256, *spec.shape), generator=generator, dtype=torch.uint8)
        return ArraySplit(images.numpy(), (torch.arange(256) % spec.classes).numpy())

    def test() -> ArraySplit:
        raise AssertionError("the test split was read")

    return Dataset(spec, train, train, test)
