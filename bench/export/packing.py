"""Containers of whole numbers: the types a grid's codes are stored in (docs/export.md#containers)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bench.errors import NotApplicable

PACKED_OPSET = 21
"""The first opset whose QuantizeLinear and DequantizeLinear take 4-bit types."""

TWO_BIT_OPSET = 25
"""The first that take 2-bit types."""


@dataclass(frozen=True)
class Container:
    """An ONNX type of ``bits`` that holds low..high."""

    type: ir.DataType
    bits: int
    low: int
    high: int

    @property
    def name(self) -> str:
        """INT4, UINT8…"""
        return self.type.name

    def tensor(self, values: npt.ArrayLike, name: str) -> ir.Tensor[Any]:
        """Whole numbers as a tensor of this type; several to a byte where it has fewer than 8 bits."""
        whole = np.asarray(values)
        assert whole.size == 0 or (whole.min() >= self.low and whole.max() <= self.high), name
        return ir.Tensor(whole.astype(self.type.numpy()), dtype=self.type, name=name)


def _of(bits: int, signed: bool) -> Container:
    kind = ir.DataType[f"{'INT' if signed else 'UINT'}{bits}"]
    half = 1 << (bits - 1)
    return Container(kind, bits, -half if signed else 0, half - 1 if signed else 2 * half - 1)


def container(low: int, high: int, *, least: int) -> Container:
    """The smallest container of at least ``least`` bits that holds low..high: signed where ``low`` is negative.

    Raises:
        NotApplicable: 16 bits do not hold them.
    """
    for bits in (2, 4, 8, 16):
        found = _of(bits, low < 0)
        if bits >= least and found.low <= low and high <= found.high:
            return found
    raise NotApplicable("no container holds the grid", got=f"{low} to {high}", expected="2, 4, 8 or 16 bits")
