"""What of a machine is written down, how machines are told apart by it, and kernels that are asked for."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import runtime
from bench.errors import BenchError
from bench.machine import (
    KERNELS,
    KEYED,
    VARIABLES,
    alike,
    check_in_process,
    cpu_facts,
    kernel_facts,
    kernels_chosen,
    machine_key,
)

X86 = pytest.mark.skipif("avx2" not in cpu_facts().get("instruction_sets", ""), reason="needs AVX2")
OLD = {"python": "3.11", "torch": "2.15.0", "cpu": "AMD EPYC", "cores": 2, "device": "cpu", "threads": 1}
"""Facts as records had them before instruction sets were written down."""


def facts(**changes: Any) -> dict[str, Any]:
    """A worker's facts with one thread."""
    return {**runtime.facts("cpu", 1), **changes}


def test_facts_name_libraries_instruction_sets_and_kernels() -> None:
    found = facts()
    assert set(KEYED) - {"gpu", "kernel_variables"} <= set(found) | {"cpu_model", "instruction_sets"}
    assert found["aten"] in ("DEFAULT", "AVX2", "AVX512") or platform.machine() != "x86_64"
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            "  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build\n"
            "  - Intel(R) MKL-DNN v3.13.3 (Git Hash b38)\n  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release",
            {"onednn": "3.13.3", "blas": "mkl 2024.2"},
        ),
        ("  - Build settings: BLAS_INFO=open, USE_MKLDNN=OFF", {"onednn": "none", "blas": "open"}),
        ("", {"onednn": "none", "blas": "none"}),
    ],
)
def test_library_versions_are_read_off_what_torch_says(config: str, expected: dict[str, str]) -> None:
    assert runtime.library_versions(config) == expected


@pytest.mark.parametrize("name", KEYED)
def test_whatever_can_move_numbers_is_in_the_key(name: str) -> None:
    assert machine_key(facts(**{name: "other"})) != machine_key(facts())


@pytest.mark.parametrize("name", ["python", "platform", "cores", "date", "finished", "host"])
def test_nothing_else_is(name: str) -> None:
    assert machine_key(facts(**{name: "other"})) == machine_key(facts())


def test_a_key_can_be_read() -> None:
    known = {"aten": "AVX512", "threads": 2, "kernels": "native"}
    assert machine_key(known).startswith("avx512/2t/")
    assert machine_key({**known, "aten": "AVX2", "kernels": "portable"}).startswith("portable-avx2/2t/")
    assert machine_key(OLD).startswith("?/1t/")
    assert machine_key({}) == ""


def test_alike_is_unknown_where_one_tells_less() -> None:
    told = {**OLD, "aten": "AVX512", "instruction_sets": "avx2 avx512f"}
    assert alike(told, dict(told)) is True
    assert alike(told, OLD) is None
    assert alike(OLD, dict(OLD)) is None  # "AMD EPYC" may have AVX-512 or not
    assert alike(told, {**OLD, "cpu": "another"}) is False
    assert alike(told, {**told, "aten": "AVX2"}) is False


# --- kernels ---


def test_kernel_facts_tell_the_words_from_other_variables() -> None:
    assert kernel_facts({}) == {"kernels": "native"}
    assert kernel_facts({**KERNELS["portable"], "HOME": "/x"})["kernels"] == "portable"
    forced = kernel_facts({"MKL_CBWR": "AVX2"})
    assert forced == {"kernels": "forced", "kernel_variables": "MKL_CBWR=AVX2"}
    assert {name for wanted in KERNELS.values() for name in wanted} <= set(VARIABLES)


@X86
def test_the_environment_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    with kernels_chosen("portable"):
        assert kernel_facts()["kernels"] == "portable"
    assert dict(os.environ) == before
    with kernels_chosen("native"):
        assert dict(os.environ) == before


@X86
def test_kernels_that_cannot_be_had_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match="unknown kernels"), kernels_chosen("fast"):
        pass
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    with pytest.raises(BenchError, match="forces other kernels"), kernels_chosen("portable"):
        pass
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    with pytest.raises(BenchError, match="torch is loaded"):  # pytest has loaded it
        check_in_process("portable")
    check_in_process("native")


@X86
def test_a_process_started_meanwhile_runs_them() -> None:
    with kernels_chosen("portable"):
        found = _child()
    assert found["aten"] == "AVX2"
    assert found["kernels"] == "portable"
    assert machine_key(found).startswith("portable-avx2/1t/")
    assert machine_key(found) != machine_key(_child())


def _child() -> dict[str, Any]:
    code = "import json; from bench import runtime; print(json.dumps(runtime.facts('cpu', 1)))"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
