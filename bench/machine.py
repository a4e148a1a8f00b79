"""What of a machine can move numbers, and how machines are told apart by it.  No torch.

One seed gives the same numbers to the bit on one machine; on a processor with other instructions torch, oneDNN and the
BLAS run other kernels, which sum in another order, and 2-bit cells move by points.  A record's facts
(:func:`bench.runtime.facts`) say which; a key made of them tells alike from unlike.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from bench.errors import BenchError

KERNELS: Mapping[str, Mapping[str, str]] = {
    "native": {},
    "portable": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"},
}
"""What ``--kernels`` sets in the environment.  ``COMPATIBLE`` because MKL takes its other branches on Intel's
processors only: elsewhere it ignores ``MKL_CBWR=AVX2`` and ``MKL_ENABLE_INSTRUCTIONS``."""

VARIABLES = (
    *("ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS"),
    "ONEDNN_MAX_CPU_ISA",
)
"""Environment variables by which the libraries choose other kernels."""

KEYED = (
    *("device", "gpu", "threads", "torch", "cpu", "cpu_model", "instruction_sets", "aten", "onednn", "blas"),
    "kernel_variables",
)
"""The facts that make a machine's key.  The processor's model is one of them, since oneDNN and the BLAS choose kernels
and blocks by it; it stays one under ``portable`` as long as nobody has measured that two models then agree."""

UNKNOWN = "?"
"""The first word of a key whose record does not say its instruction set (those made before it was written down)."""

_SETS = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "bf16", "i8mm")
_MODEL = ("vendor_id", "cpu family", "model")


def cpu_facts() -> dict[str, str]:
    """Name, model (vendor, family, model) and instruction sets of the processor, as the system tells them; what it does
    not tell is left out, but the name."""
    said = _cpuinfo()
    found = {"cpu": said.get("model name") or platform.processor() or platform.machine()}
    model = "/".join(said[name] for name in _MODEL if name in said)
    flags = sorted({*said.get("flags", "").split(), *said.get("Features", "").split()})
    sets = " ".join(flag for flag in flags if flag.startswith(_SETS))
    return found | ({"cpu_model": model} if model else {}) | ({"instruction_sets": sets} if sets else {})


@lru_cache(maxsize=1)
def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is no such file."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            pairs = [line.partition(":") for line in file.read().partition("\n\n")[0].splitlines()]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs}


# --- which kernels ---


def kernel_facts(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Which kernels this process was started with: ``native``, ``portable``, or ``forced`` by other variables, and the
    variables themselves."""
    given = {name: environment[name] for name in VARIABLES if environment.get(name)}
    word = next((name for name, wanted in KERNELS.items() if wanted == given), "forced")
    text = " ".join(f"{name}={value}" for name, value in given.items())
    return {"kernels": word} | ({"kernel_variables": text} if text else {})


@contextmanager
def kernels_chosen(name: str) -> Iterator[None]:
    """Processes that are started meanwhile, and this one if it has not loaded torch yet, run these kernels.  ``native``
    leaves the environment as it is.

    Raises:
        BenchError: unknown name, a processor without AVX2, or an environment that forces other kernels.
    """
    if name not in KERNELS:
        raise BenchError("unknown kernels", where="--kernels", got=name, expected=tuple(KERNELS))
    wanted = KERNELS[name]
    if wanted and "avx2" not in cpu_facts().get("instruction_sets", "").split():
        hint = "Leave --kernels out."
        raise BenchError("this processor has no AVX2", where="--kernels", got=platform.machine(), hint=hint)
    other = [
        variable
        for variable in VARIABLES
        if wanted and os.environ.get(variable) not in (None, "", wanted.get(variable))
    ]
    if other:
        hint = f"Unset {', '.join(other)}."
        raise BenchError("the environment forces other kernels", where="--kernels", got=name, hint=hint)
    old = {variable: os.environ.get(variable) for variable in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for variable, value in old.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


def check_in_process(name: str) -> None:
    """Libraries read the variables when they load, so a process that has loaded them runs what it runs.

    Raises:
        BenchError: torch is loaded already, and other kernels are asked for.
    """
    if "torch" in sys.modules and KERNELS.get(name) and kernel_facts()["kernels"] != name:
        hint = "Give --workers 1 or more."
        raise BenchError("torch is loaded already", where="--kernels", got=f"{name} in this process", hint=hint)


# --- alike or not ---


def machine_key(facts: Mapping[str, Any]) -> str:
    """What tells machines apart, in short: ``avx512/1t/3f9a21`` is ATen's kernels, threads, and a digest of all that
    can move numbers (:data:`KEYED`); ``portable-avx2/1t/…`` where these kernels were asked for.  Empty where the facts
    say nothing.  The host's name is no part of it."""
    told = tuple((name, str(facts[name])) for name in KEYED if name in facts)
    return _key(told, str(facts.get("kernels", "native"))) if told else ""


@lru_cache(maxsize=1024)
def _key(told: tuple[tuple[str, str], ...], kernels: str) -> str:
    facts = dict(told)
    word = facts.get("gpu", facts.get("aten", UNKNOWN)).lower().replace(" ", "-")
    before = "" if kernels == "native" else f"{kernels}-"
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    return f"{before}{word}/{facts.get('threads', UNKNOWN)}t/{digest[:6]}"


def alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool | None:
    """Whether two records come from machines of one kind: None where all that both tell agrees, but one tells less."""
    if machine_key(first) == machine_key(second):
        return "aten" in first or None
    told = [name for name in KEYED if name in first and name in second]
    return False if any(first[name] != second[name] for name in told) else None
