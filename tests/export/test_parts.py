"""Containers, comparisons and what a store keeps of an export, without any network (docs/export.md#containers)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from bench.errors import BenchError, NotApplicable, StoreError
from bench.export import needs
from bench.export.comparing import parity
from bench.export.packing import container
from bench.store.exports import StoredExport, parities, read_export, write_export


@pytest.mark.parametrize(
    ("low", "high", "least", "name"),
    [
        (0, 3, 2, "UINT2"),
        (-2, 1, 2, "INT2"),
        (0, 3, 4, "UINT4"),
        (0, 7, 2, "UINT4"),
        (-8, 7, 2, "INT4"),
        (0, 16, 2, "UINT8"),
        (0, 15, 8, "UINT8"),
        (-128, 127, 2, "INT8"),
        (0, 256, 2, "UINT16"),
    ],
)
def test_the_smallest_container_that_holds_the_grid(low: int, high: int, least: int, name: str) -> None:
    found = container(low, high, least=least)
    assert found.name == name
    codes = np.resize(np.arange(low, high + 1), 64)
    tensor = found.tensor(codes, "codes")
    assert tensor.nbytes == 64 * found.bits // 8
    back = ir.serde.deserialize_tensor(ir.to_proto(tensor))
    assert np.array_equal(back.numpy().astype(np.int64), codes)


def test_what_no_container_holds_is_refused() -> None:
    with pytest.raises(NotApplicable, match="0 to 65536"):
        container(0, 1 << 16, least=2)


def test_parity_by_hand() -> None:
    simulated = np.array([[1, 2], [3, 1], [0, 5], [np.nan, 1]], np.float32)
    exported = np.array([[1, 2.5], [1, 3], [0, 5], [np.nan, 1]], np.float32)
    found = parity(simulated[:3], exported[:3], np.array([1, 0, 0]), 0.25)
    assert found.simulated_top1 == pytest.approx(200 / 3)
    assert found.exported_top1 == pytest.approx(100 / 3)
    assert found.agreement == pytest.approx(200 / 3)
    assert (found.logit_difference, found.logit_steps) == (2.0, 8.0)
    # logits that are not finite predict nothing, so they agree with nothing
    assert parity(simulated, exported, np.array([1, 0, 0, 1]), None).agreement == 50.0
    assert parity(simulated[3:], exported[3:], np.array([1]), 0.25).logit_difference is None
    with pytest.raises(ValueError, match="images"):
        parity(simulated, exported[:3], np.array([1, 0, 0, 1]), None)


def stored(cell: str = "ab12") -> StoredExport:
    return StoredExport(
        cell_id=cell, file_digest="0" * 64, images=200, agreement=99.5, simulated_top1=80.0, exported_top1=80.5
    )


def test_a_store_keeps_the_last_export_of_a_cell_and_tells_a_changed_one(tmp_path: Path) -> None:
    assert parities(tmp_path) == parities(None) == {}
    path = write_export(tmp_path, stored())
    assert read_export(path) == stored()
    assert parities(tmp_path) == {"ab12": 99.5}
    # fewer images of the same file say less than more of them
    write_export(tmp_path, stored().model_copy(update={"images": 20, "agreement": 100.0}))
    assert parities(tmp_path) == {"ab12": 99.5}
    write_export(tmp_path, stored().model_copy(update={"images": 20, "agreement": 99.5, "file_digest": "1" * 64}))
    found = read_export(path)
    assert found is not None
    assert found.images == 20
    path.write_text(path.read_text().replace("99.5", "99.9"))
    with pytest.raises(StoreError, match="digest"):
        read_export(path)
    assert parities(tmp_path) == {}


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> dict[str, str]:
        raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

    monkeypatch.setattr(needs, "versions", lacking)
    with pytest.raises(BenchError, match=r"(?s)onnxruntime.*datafree-bench\[onnx\]"):
        needs.require()
