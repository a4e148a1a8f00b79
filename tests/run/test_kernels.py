"""``--kernels``: reaches the workers, stands in their records, and changes no id."""

from __future__ import annotations

import os

import pytest

from bench.board.index.cells import repro_command
from bench.board.index.frame import frame
from bench.errors import BenchError
from bench.machine import VARIABLES, cpu_facts, machine_key

from .conftest import Run

pytestmark = pytest.mark.skipif("avx2" not in cpu_facts().get("instruction_sets", ""), reason="needs AVX2")


def test_workers_run_the_kernels_asked_for_and_say_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    native, portable = run("native", workers=1), run("portable", workers=1, kernels="portable")
    assert dict(os.environ) == before
    assert {r.provenance["kernels"] for r in native} == {"native"}
    assert {(r.provenance["kernels"], r.provenance["aten"]) for r in portable} == {("portable", "AVX2")}
    assert [(r.cell_id, r.row_id) for r in portable] == [(r.cell_id, r.row_id) for r in native]
    keys = [{machine_key(r.provenance) for r in records} for records in (native, portable)]
    assert [len(found) for found in keys] == [1, 1]
    assert keys[0] != keys[1]
    assert "--kernels portable" in repro_command(portable[0])
    assert "--kernels" not in repro_command(native[0])
    half = [*(r for r in native if r.seed == 0), *(r for r in portable if r.seed == 1)]
    assert frame(half)["mixed"].all()
    assert not frame(native)["mixed"].any()


def test_what_cannot_be_had_is_said_before_any_compute(run: Run) -> None:
    with pytest.raises(BenchError, match="torch is loaded already"):
        run(workers=0, kernels="portable")
    with pytest.raises(BenchError, match="unknown kernels"):
        run(workers=1, kernels="fast")
