"""How long the integer programme takes for a network of 52 layers, as ResNet-50 has, with 16 pairs of bits each, under
a budget of bit operations and one of size: ``pytest tests/benchmarks/test_program.py --benchmark-only``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.interfaces import LayerBits
from bench.interfaces.program import Limits, solve
from tests.policies.test_program import BITS, instance

LAYERS = 52


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("seed", range(3))
def test_bits_of_a_large_network(benchmark: Any, seed: int) -> None:
    pairs = [LayerBits(weight, act) for weight in BITS for act in BITS]
    choices = instance(np.random.default_rng(seed), LAYERS, pairs)
    limits = Limits(9 * sum(c.macs for c in choices), 4 * sum(c.weights for c in choices))
    benchmark.pedantic(lambda: solve(choices, limits), rounds=3)
