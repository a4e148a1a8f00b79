"""What lies around a method and is none of its business: global random states, switches, files, standard output."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

OUTSIDE = ("subprocess.Popen", "os.system", "socket.connect", "os.mkdir", "os.rename", "os.remove", "shutil.rmtree")
"""Audit events that a method has no use for, whatever their arguments (files in its scratch folder aside)."""

_listening: list[list[str]] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if not _listening:
        return
    if event == "open":
        path, _, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writes and isinstance(path, str | bytes | os.PathLike):
            _listening[-1].append(f"open {os.fsdecode(path)}")
    elif event in OUTSIDE:
        _listening[-1].append(" ".join([event, *(str(arg) for arg in args)]))


sys.addaudithook(_hear)  # for good, as Python has it; deaf while nobody listens


def switches() -> dict[str, object]:
    """The state of everything global that a method could change."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 - the global one is what must not change
    return {
        "random state of torch": torch.get_rng_state().numpy().tobytes(),
        "random state of numpy": (numpy_state[1].tobytes(), numpy_state[2:]),
        "random state of Python": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "environment": dict(os.environ),
        "working folder": os.getcwd(),
    }


@contextlib.contextmanager
def reseeded(seed: int) -> Iterator[None]:
    """Other global random states; those from before come back."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        random.setstate(before[2])


@cache
def warm() -> None:
    """A process's first optimiser lets torch import its compiler, which sets a variable: torch's doing, no method's."""
    torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]).step()


@contextlib.contextmanager
def sealed(scratch: Path) -> Iterator[None]:
    """Fails unless everything is left as it was: no switch turned, nothing printed, no file but in ``scratch``.

    The working folder is an empty one meanwhile, so that files written past Python's own calls show, too.
    """
    warm()
    heard: list[str] = []
    said, before = io.StringIO(), switches()
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        inside = {"working folder": os.getcwd()}
        _listening.append(heard)
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                yield
        finally:
            _listening.pop()
            after, left = switches(), os.listdir(empty)
            _restore(before)
    changed = [name for name, value in (before | inside).items() if after[name] != value]
    assert not changed, f"changed: {', '.join(changed)}"
    outside = [
        what for what in heard if str(scratch) not in what and "__pycache__" not in what and "devnull" not in what
    ]
    assert not outside, f"reached out: {outside[:3]}"
    assert not left, f"files in the working folder: {left}"
    assert not said.getvalue(), f"printed: {said.getvalue()[:80]!r}"


def _restore(before: dict[str, object]) -> None:
    """The switches that would disturb other tests."""
    torch.set_default_dtype(before["default dtype"])  # type: ignore[arg-type]
    torch.set_grad_enabled(bool(before["gradients"]))
    torch.set_num_threads(int(before["threads"]))  # type: ignore[call-overload]
    torch.use_deterministic_algorithms(bool(before["deterministic algorithms"]))
    environment: Any = before["environment"]
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
