"""A state dict's names fitted to a network's: prefixes of trainings taken off, counters filled in, extras left out.

Nothing is guessed about weights: every parameter must be there under its name, and a tensor within one of the network's
parts that this part lacks is no extra but the sign of another network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import Tensor, nn

from bench.errors import WeightsError
from bench.zoo.state_dicts import LoadedState, some_of

COMPILED = "_orig_mod"
"""The part of a name that torch.compile puts in, before all or within."""

PARALLEL = "module"
"""The part that parallel training puts in, before all or before a submodule."""

_COUNTER = "num_batches_tracked"
_AUXILIARY = {_COUNTER, "total_ops", "total_params", "relative_position_index", "relative_coords_table", "attn_mask"}
"""Tensors that profilers leave in layers, or that layers compute themselves: no weights."""


def matched(module: nn.Module, loaded: LoadedState, where: str) -> LoadedState:
    """``found`` under the names of ``module``, and in words what was done.

    1. Parts of names that parallel training and torch.compile put in are dropped where the network's names then agree.
    2. A prefix that all of the network's names have in common is taken off.
    3. Counters ``num_batches_tracked`` that are missing are the network's own: they act on nothing in eval mode.
    4. Extra tensors are left out, unless they lie within the network's own parts (``layer1.2.conv1.weight`` where its
       layer1 ends at 1, ``conv1.bias`` where its conv1 has none): then they stay, and loading them says so.

    Args:
        where: the file, for messages.

    Raises:
        WeightsError: the network's names stand there under several prefixes.
    """
    own: Mapping[str, Tensor] = module.state_dict()
    said = list(loaded.notes)
    state = _without(_without(loaded.state, COMPILED, own, said), PARALLEL, own, said)
    state = _unprefixed(state, own, where, said)
    kept = {name: value for name, value in state.items() if name in own or _is_another_layer(module, name)}
    if kept.keys() & own.keys():
        if extra := [name for name in state if name not in kept]:
            said.append(f"left out, not of this network: {some_of(extra)}")
        counters = [name for name in own if name.rpartition(".")[2] == _COUNTER and name not in kept]
        if counters:
            said.append(f"{len(counters)} counters {_COUNTER} are missing and stand at 0; nothing reads them")
            kept |= {name: own[name] for name in counters}
        state = kept
    return LoadedState({name: state[name] for name in sorted(state)}, tuple(said))


def _without(state: dict[str, Tensor], part: str, own: Mapping[str, Tensor], said: list[str]) -> dict[str, Tensor]:
    """``state`` with ``part`` dropped from all names, where more of the network's then stand behind one prefix."""
    bare = {".".join(piece for piece in name.split(".") if piece != part): value for name, value in state.items()}
    if len(bare) < len(state) or _most(bare, own)[1] <= _most(state, own)[1]:
        return state
    said.append(f"{part!r} taken out of {sum(part in name.split('.') for name in state)} names")
    return bare


def _unprefixed(state: dict[str, Tensor], own: Mapping[str, Tensor], where: str, said: list[str]) -> dict[str, Tensor]:
    prefix, hits, other = _most(state, own)
    if not prefix or hits <= sum(name in own for name in state):
        return state
    if other is not None:
        raise WeightsError(
            "several networks of these names lie in the file",
            where=where,
            got=f"{prefix}…, {other}…",
            hint="Save the one you mean alone.",
        )
    said.append(f"the prefix {prefix!r} taken off {sum(name.startswith(prefix) for name in state)} names")
    under = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return under | {name: value for name, value in state.items() if not name.startswith(prefix) and name not in under}


def _most(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[str, int, str | None]:
    """The prefix with which most of the network's names stand in ``state``, how many, and another one with as many."""
    counts: Counter[str] = Counter()
    for name in state:
        starts = [0, *(i + 1 for i, letter in enumerate(name) if letter == ".")]
        counts.update(name[:start] for start in starts if name[start:] in own)
    if not counts:
        return "", 0, None
    (best, hits), *rest = sorted(counts.items(), key=lambda item: (-item[1], len(item[0]), item[0]))
    return best, hits, rest[0][0] if rest and rest[0][1] == hits else None


def _is_another_layer(module: nn.Module, name: str) -> bool:
    """Whether the extra tensor ``name`` lies within a part of the network: another one has it."""
    *path, leaf = name.split(".")
    at = module
    for depth, part in enumerate(path):
        below = dict(at.named_children()).get(part)
        if below is None:
            return depth > 0
        at = below
    return bool(path) and leaf not in _AUXILIARY
