"""Names to networks: what exists, building one, loading its checked weights, and what a zoo knows of a target."""

from __future__ import annotations

import torch
from torch import nn

from bench.data.datasets import SPECS
from bench.errors import WeightsError, nearest
from bench.zoo.small import BUILDERS
from bench.zoo.table import EPOCH_FACTOR, NETWORKS, Network


def network_names(dataset: str) -> tuple[str, ...]:
    """Every network of ``dataset``, targets first."""
    return tuple(f"{dataset}/{n.stem}" for n in NETWORKS) if dataset in EPOCH_FACTOR else ()


def find(name: str) -> tuple[str, Network]:
    """Split ``dataset/stem`` and look it up.

    Raises:
        WeightsError: no such network, with the nearest name.
    """
    dataset, _, stem = name.partition("/")
    for network in NETWORKS:
        if dataset in EPOCH_FACTOR and network.stem == stem:
            return dataset, network
    known = [n for d in EPOCH_FACTOR for n in network_names(d)]
    raise WeightsError(
        "no such network",
        where="zoo",
        got=name,
        expected=network_names(dataset) or known,
        nearest=nearest(name, known),
    )


def build(name: str) -> nn.Module:
    """A fresh network, initialised from its own seed; the caller's random state stays as it was."""
    dataset, network = find(name)
    spec = SPECS[dataset]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(network.seed)
        return BUILDERS[network.builder](spec.classes, spec.shape[0], **network.kwargs)
