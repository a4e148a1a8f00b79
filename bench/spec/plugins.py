"""Methods in a single file of the user's: ``bench run SUITE --plugin my_source.py``.

The file's stem is the method's name; what its ``METHOD`` declares says of which kind it is.  It is read once, when it
is planned with: every process of the run loads these very bytes, so that what a record names is what ran.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import SuiteError, nearest
from bench.interfaces import WORDS, Compressor, DataSource, PolicySearch

PROTOCOLS: Mapping[str, type] = {"sources": DataSource, "compressors": Compressor, "policies": PolicySearch}
"""What a method of each kind declares."""

SINGULAR: Mapping[str, str] = {"sources": "source", "compressors": "compressor", "policies": "policy"}
"""What one method of each kind is called."""

ATTRIBUTE = "METHOD"
"""What a method's file calls its one instance."""

KEY = "plugin"
"""Under which a file's digest stands among the hashed and recorded parameters of its method."""

MOST_BYTES = 1 << 20
"""Bytes of a method's file; a larger one is no source text of a person's."""

_OPTION = "--plugin"
NAME = re.compile(r"[a-z][a-z0-9_]*")
"""What a method in a file may be called."""

_BREAKS = (
    *(ImportError, SyntaxError, NameError, TypeError, ValueError, AttributeError, LookupError, RuntimeError),
    *(ArithmeticError, AssertionError, OSError, MemoryError, SystemExit),
)
"""What a file that is no module of a method ends with when it is loaded; a script says SystemExit."""


@dataclass(frozen=True)
class Plugin:
    """A method's file.

    ``kind`` is that of the registries, ``name`` the file's stem, ``file`` its path as it was given, ``text`` its
    content and ``digest`` the SHA-256 of that.
    """

    kind: str
    name: str
    file: str
    text: bytes = field(repr=False)
    digest: str = ""

    @property
    def method(self) -> Any:
        """The instance; the file's code runs now, unless it did so in this process before.

        Raises:
            SuiteError: the file cannot be loaded here, or exposes no method.
        """
        return _method(self.name, self.file, self.text, self.digest)


def read_plugins(files: Iterable[Path]) -> tuple[Plugin, ...]:
    """The methods in ``files``, whose code runs to tell their kinds; a file given twice counts once.

    Raises:
        SuiteError: no file, or none that declares a method of one kind; two that claim one name.
    """
    found: dict[tuple[str, str], Plugin] = {}
    for file in files:
        plugin = read_plugin(file)
        key = (plugin.kind, plugin.name)
        if found.setdefault(key, plugin).digest != plugin.digest:
            raise SuiteError(
                f"two {plugin.kind} of one name",
                where=_OPTION,
                got=f"{plugin.name}: {found[key].file} and {plugin.file}",
                hint="A file's name is its method's name: rename one of them.",
            )
    return tuple(found.values())


def read_plugin(file: Path) -> Plugin:
    """The method in ``file``; its code runs.

    Raises:
        SuiteError: it cannot be read, or is no Python source with a method of one kind.
    """
    if file.suffix != ".py" or not NAME.fullmatch(file.stem):
        raise SuiteError(
            "is no name of a method's file",
            where=_OPTION,
            got=str(file),
            expected="NAME.py, NAME of lower-case letters, digits and _",
        )
    try:
        with file.open("rb") as stream:
            text = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise SuiteError("the file cannot be read", where=_OPTION, got=f"{file}: {error.strerror}") from error
    if len(text) > MOST_BYTES:
        raise SuiteError("the file is no method", where=_OPTION, got=f"{file}: more than {MOST_BYTES} bytes")
    digest = hashlib.sha256(text).hexdigest()
    method = _method(file.stem, str(file), text, digest)
    plugin = Plugin(_kind(method, str(file)), file.stem, str(file), text, digest)
    if KEY in getattr(method.Params, "model_fields", ()):
        raise SuiteError(
            "the method has a parameter of a name that is taken", where=f"{_OPTION} {file}", got=KEY, hint="Rename it."
        )
    return plugin


def undeclared(method: Any, protocol: type) -> tuple[str, ...]:
    """What ``protocol`` and its bases name and ``method`` lacks, sorted: attributes, methods, and the methods behind
    what it says it ``offers``."""
    bases = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    attributes = [name for base in bases for name in inspect.get_annotations(base)]
    methods = [name for base in bases for name, item in vars(base).items() if inspect.isfunction(item)]
    absent = object()
    lacking = {name for name in attributes if getattr(method, name, absent) is absent}
    wanted = {name for name in methods if not name.startswith("_")}
    if "offers" in attributes:
        wanted |= set(getattr(method, "offers", ())) - WORDS
    lacking |= {name for name in wanted if not callable(getattr(method, name, None))}
    return tuple(sorted(lacking))


def _kind(method: Any, file: str) -> str:
    """The one kind whose declarations are all there.

    Raises:
        SuiteError: none, with what the nearest kind misses; more than one.
    """
    lacking = {kind: undeclared(method, protocol) for kind, protocol in PROTOCOLS.items()}
    fitting = [kind for kind, missing in lacking.items() if not missing]
    if len(fitting) == 1:
        return fitting[0]
    where = f"{_OPTION} {file}"
    if fitting:
        raise SuiteError("the method is of several kinds", where=where, got=", ".join(fitting), expected="one kind")
    near = min(lacking, key=lambda kind: len(lacking[kind]))
    raise SuiteError(
        "the method does not declare all it must",
        where=where,
        got=f"as a {SINGULAR[near]}, which is nearest, it lacks {', '.join(lacking[near])}",
        expected=f"what bench.interfaces.{PROTOCOLS[near].__name__} names",
        hint=f"A file to start from: bench new {SINGULAR[near]} NAME",
    )


def _method(name: str, file: str, text: bytes, digest: str) -> Any:
    module = _module(name, file, text, digest)
    method = getattr(module, ATTRIBUTE, None)
    if method is None:
        public = [word for word in vars(module) if not word.startswith("_")]
        raise SuiteError(
            "the file exposes no method",
            where=f"{_OPTION} {file}",
            expected=f"{ATTRIBUTE} = an instance of a source, compressor or policy search",
            nearest=nearest(ATTRIBUTE, public),
        )
    return method


class _Given(importlib.abc.InspectLoader):
    """Loads the bytes it is given; no file is opened, no compiled one looked for."""

    def __init__(self, text: bytes, file: str) -> None:
        self._text, self._file = text, file

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._text)

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self._text, self._file)


def _module(name: str, file: str, text: bytes, digest: str) -> ModuleType:
    """The loaded module, under a name of its content's own."""
    known = f"plugin_{name}_{digest[:16]}"
    if known in sys.modules:
        return sys.modules[known]
    spec = importlib.machinery.ModuleSpec(known, _Given(text, file), origin=file)
    module = importlib.util.module_from_spec(spec)
    module.__file__ = file
    sys.modules[known] = module  # before it is complete: pydantic looks its annotations up there
    complete = False
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        complete = True
    except _BREAKS as error:
        where = f"{_OPTION} {file}{_line(error, file)}"
        raise SuiteError("the file cannot be loaded", where=where, got=_said(error)) from error
    finally:
        if not complete:
            del sys.modules[known]
    return module


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _line(error: BaseException, file: str) -> str:
    """The line of the file at which it ended, where there is one."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f":{error.lineno}"
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f":{lines[-1]}" if lines else ""
