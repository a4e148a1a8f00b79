"""Device, threads, generators, memory, facts about the machine; the only file that calls torch.cuda."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.machine import cpu_facts, kernel_facts

if TYPE_CHECKING:
    import torch

DEVICES = ("cpu", "cuda", "auto")


def resolve_device(name: str) -> str:
    """ "cpu" or "cuda" for cpu | cuda | auto.

    Raises:
        BenchError: unknown name, or cuda asked for where there is none.
    """
    if name not in DEVICES:
        raise BenchError("unknown device", where="--device", got=name, expected=DEVICES)
    if name == "cpu":
        return "cpu"
    import torch

    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise BenchError("no CUDA device here", where="--device", got=name, hint="use --device cpu")
    return "cuda" if found else "cpu"


def compute_dtype(name: str) -> torch.dtype:
    """The dtype that networks compute in; image sets are hashed with its name.

    Raises:
        BenchError: images, weights and metrics are float32 throughout; nothing else is computed in.
    """
    import torch

    if name != "float32":
        raise BenchError("no such compute dtype", got=name, expected="float32")
    return torch.float32


def set_threads(count: int) -> None:
    """Give torch ``count`` intra-op threads; results are equal only at equal counts."""
    import torch

    torch.set_num_threads(count)


def thread_variables(count: int) -> dict[str, str]:
    """The environment of a process whose libraries are to start with ``count`` threads each."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(count))


def synchronise(device: str) -> None:
    """Wait until a CUDA device has done what it was given; a CPU has."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def make_generator(seed: int) -> Any:
    """A CPU torch.Generator with ``seed``; random numbers are drawn on the CPU whatever the device."""
    import torch

    return torch.Generator().manual_seed(seed)


@dataclass
class Spent:
    """What a block took: wall seconds, CPU seconds of this process, peak resident memory in MiB."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mib: float = 0.0


@contextmanager
def measure() -> Iterator[Spent]:
    """Time a block; the peak is the process's so far (the system offers no finer one)."""
    spent = Spent()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield spent
    finally:
        spent.seconds = time.perf_counter() - wall
        spent.cpu_seconds = time.process_time() - cpu
        spent.peak_memory_mib = peak_memory_mib()


def peak_memory_mib() -> float:
    """Peak resident memory of this process in MiB; on CUDA the device's peak when that is larger."""
    scale = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return max(resident, float(torch.cuda.max_memory_allocated()) / 2**20)
    return resident


def facts(device: str, threads: int) -> dict[str, Any]:
    """What a record says of the machine; provenance, never identity."""
    import torch
    import torchvision

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": platform.platform(terse=True),
        **cpu_facts(),
        "cores": os.cpu_count(),
        "aten": torch.backends.cpu.get_cpu_capability(),
        **library_versions(torch.__config__.show()),
        **kernel_facts(),
        "device": device,
        "threads": threads,
    }
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name(0)
    return found


def library_versions(config: str) -> dict[str, str]:
    """Kind and version of oneDNN and BLAS, read off what ``torch.__config__.show()`` says; a BLAS other than MKL tells
    no version there."""
    onednn = re.search(r"MKL-DNN v([\w.]+)", config)
    blas = re.search(r"BLAS_INFO=(\w+)", config)
    mkl = re.search(r"Math Kernel Library Version ([\w.]+)", config)
    kind = blas[1] if blas else "none"
    return {
        "onednn": onednn[1] if onednn else "none",
        "blas": f"{kind} {mkl[1]}" if mkl and kind == "mkl" else kind,
    }
