"""Rules 1 and 2 of docs/architecture.md#rules, read off the source: who may import whom, and that the engine knows no
method by name.

What counts as an import and as a name is in ``source_text.py``; the mutants below show that each rule catches what it
should, and spares what only looks like it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import indent

import pytest

from tests.source_text import HIDDEN, Import, imports, is_machinery, named, paths_into

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "methods", "dashboard")
KINDS = ("sources", "compressors", "policies")

BASE = {"interfaces", "errors", "runtime", "machine", "paths", "identity", "atomic", "notes", "reading"}
BASE |= {"terminal", "text"}
ALLOWED: dict[str, set[str]] = {
    "errors": {"text"},
    "identity": set(),
    "interfaces": {"errors"},
    "atomic": set(),
    "notes": {"atomic", "reading"},
    "paths": {"errors"},
    "reading": set(),
    "text": set(),
    "machine": {"errors"},
    "runtime": {"errors", "interfaces", "machine"},
    "terminal": set(),
    "data": BASE,
    "zoo": {"data", *BASE},
    "store": BASE,
    "spec": {"zoo", "data", *BASE},
    "measure": {"zoo", "data", *BASE},
    "run": {"spec", "store", "measure", "zoo", "data", *BASE},
    "board": {"store", "spec", *BASE},
    "export": {"run", "spec", "store", "measure", "zoo", "data", *BASE},
    "submit": {"run", "board", "spec", "store", *BASE},
    "cost": {"spec", "store", "zoo", "data", *BASE},
    "advise": {"run", "board", "spec", "store", "measure", "zoo", "data", *BASE},
    "cli": {"advise", "cost", "export", "submit", "run", "board", "spec", "store", "measure", "zoo", "data", *BASE},
}
"""Part of bench → the other parts it may import (docs/architecture.md#rule-2: cli → run → spec, store, measure → zoo,
data)."""

TORCH_FREE = (
    "bench/spec",
    "bench/board",
    *(
        f"bench/store/{name}.py"
        for name in (
            *("bitmaps", "files", "image_bits", "measured", "meta", "objects", "policies", "record_store"),
            *("records", "seals", "verifications"),
        )
    ),
    "bench/atomic.py",
    "bench/machine.py",
    "bench/notes.py",
)


@dataclass(frozen=True)
class Found:
    """An import and the file it stands in."""

    file: Path
    what: Import

    @property
    def module(self) -> str:
        return self.what.module

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.what.line} imports {self.module}"


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@lru_cache(maxsize=512)
def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@lru_cache(maxsize=512)
def imports_of(file: Path) -> tuple[Import, ...]:
    return tuple(imports(text_of(file)))


def part_of(file: Path) -> str:
    """The part of bench a file belongs to."""
    return file.relative_to(ROOT / "bench").parts[0].removesuffix(".py")


def all_imports(*packages: str) -> list[Found]:
    return [Found(file, one) for package in packages for file in sources(package) for one in imports_of(file)]


def test_imports_name_their_package() -> None:
    assert [str(found) for found in all_imports(*PACKAGES) if found.module.startswith(".")] == []


def test_parts_of_bench_import_downwards_only() -> None:
    wrong = []
    for found in all_imports("bench"):
        if not found.module.startswith("bench."):
            continue
        here, there = part_of(found.file), found.module.split(".")[1]
        if there == "__version__":
            continue
        assert here in ALLOWED, f"{here} is a new part of bench: say in ALLOWED what it may import"
        if there != here and there not in ALLOWED[here]:
            wrong.append(str(found))
    assert wrong == []


DOORS = (
    "bench/spec/registry.py",
    "bench/spec/plugins.py",
    "dashboard/__main__.py",
    "bench/data/places.py",
    "bench/zoo/factories.py",
    "bench/zoo/packages.py",
)
"""Who may import by name: the registry and the reader of methods' files, which find the methods, and the dashboard's
server its own pages; the data sets, and the zoo, ask whether a library of theirs is installed, and a user's network is
built by a function of the user's."""


def reaches_out(place: str, text: str, packages: Sequence[str]) -> list[str]:
    """How a file gets at ``packages``: by an import at any depth, for type checkers or at run time, or by a string."""
    wrong = [f"{place}:{one.line} imports {one.module}" for one in imports(text) if part_root(one) in packages]
    if place not in DOORS:
        hidden = [one for one in imports(text) if one.module == HIDDEN or is_machinery(one.module)]
        wrong += [f"{place}:{one.line} may import what is not shown" for one in hidden]
        named_paths = paths_into(text, packages)
        wrong += [f"{place}:{line} names {path}" for line, path in named_paths if path not in LABELS.get(place, ())]
    return wrong


LABELS = {"dashboard/figures/leaderboard.py": ("methods",)}
"""Texts that are a package's name and mean something else."""


def part_root(one: Import) -> str:
    return one.module.split(".")[0]


@pytest.mark.parametrize(("package", "others"), [("bench", ("methods", "dashboard")), ("dashboard", ("methods",))])
def test_methods_are_reached_through_the_registry_and_the_dashboard_by_nobody(
    package: str, others: tuple[str, ...]
) -> None:
    files = sources(package)
    assert [wrong for f in files for wrong in reaches_out(str(f.relative_to(ROOT)), text_of(f), others)] == []


def test_the_registry_names_one_package_in_one_place() -> None:
    door = ROOT / DOORS[0]
    assert [said for _, said in paths_into(text_of(door), ("methods", "dashboard"))] == ["methods"]


@pytest.mark.parametrize(
    "mutant",
    [
        "import methods",
        "import methods.quant.units as units",
        "def f():\n    from dashboard.report.page import build",
        "class A:\n    def f(self):\n        if self:\n            import dashboard",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from dashboard.report.page import Part",
        "try:\n    from methods import sources\nexcept ImportError:\n    pass",
        "import importlib",
        "from importlib import import_module as get",
        "import importlib.util as u",
        "import runpy",
        "__import__('methods.quant')",
        "m = load.import_module(name)",
        "m = load.import_module('meth' + 'ods.quant')",
        "m = load.import_module(f'methods.{kind}')",
        "m = load.import_module(name=f'{package}.{kind}')",
        "from importlib import resources\nfolder = resources.files('methods')",
        "from importlib import resources\nfolder = resources.files(package)",
        "from importlib import metadata\npoint = metadata.entry_points(group='x')",
        "exec('import ' + name)",
        "import sys\nm = sys.modules['methods.quant.units']",
        "command = [python, '-m', 'dashboard']",
        "folder = root / 'methods/sources'",
        "PLACE = 'dashboard.report.page:build'",
    ],
)
def test_a_way_out_of_the_engine_is_caught(mutant: str) -> None:
    assert reaches_out("bench/x.py", mutant, ("methods", "dashboard")) != []
    inside = f'"""A module."""\n\n\ndef f(name, package, kind, load, root, python):\n{indent(mutant, "    ")}\n'
    assert reaches_out("bench/x.py", inside, ("methods", "dashboard")) != []


@pytest.mark.parametrize(
    "text",
    [
        '"""Uses what methods.quant.units finds; see dashboard.report.page."""',
        "# import methods\nx = 1",
        "from bench.interfaces import methods",
        "import methodsx",
        "from importlib import metadata, resources\nfolder = resources.files('suites')",
        "import re\npattern = re.compile('methods?')",
        "module.eval()",
        "said = 'newer methods. Ctrl-C ends the dashboard: now'",
        "group = 'datafree_bench.methods'",
    ],
)
def test_what_only_looks_like_a_way_out_is_spared(text: str) -> None:
    assert reaches_out("bench/x.py", text, ("methods", "dashboard")) == []


def test_methods_see_interfaces_and_errors_only() -> None:
    allowed = ("bench.interfaces", "bench.errors", "methods")
    wrong = [
        str(found)
        for found in all_imports("methods")
        if found.module.split(".")[0] in PACKAGES and not found.module.startswith(allowed)
    ]
    assert wrong == []


def test_sources_and_compressors_do_not_know_each_other() -> None:
    wrong = []
    for found in all_imports("methods"):
        parts = found.module.split(".")
        here = found.file.relative_to(ROOT / "methods").parts[0]
        if parts[0] == "methods" and here in KINDS and len(parts) > 1 and parts[1] in KINDS and parts[1] != here:
            wrong.append(str(found))
    assert wrong == []


def test_a_method_builds_on_shared_parts_not_on_another_method() -> None:
    wrong = []
    for found in all_imports("methods"):
        parts = found.module.split(".")
        if parts[:1] == ["methods"] and len(parts) > 2 and parts[1] in KINDS and not parts[2].startswith("_"):
            # what a method computes may lie in a neighbour of its name, which knows its parameters by their type
            own = found.what.typing_only and found.file.stem.startswith(f"_{parts[2]}")
            wrong += [] if own else [str(found)]
    assert wrong == []


SHOWN = (
    "bench.board",
    "bench.store.bitmaps",
    "bench.store.records",
    "bench.store.measured",
    "bench.errors",
    "bench.text",
    "dashboard",
)
"""What a page may read: the board and the records behind it."""
COMMANDS = (
    "bench.cli.app",
    "bench.cli.edge",
    "bench.cli.options",
    "bench.cli.board",
    "bench.cli.diagnose",
    "bench.spec.suite",
    "bench.store.files",
)
"""What ``dashboard/cli*.py`` needs besides: it is the command line, of which the engine's is one part, and gathers for
the report what the engine's own commands gather."""


def test_the_dashboard_reads_the_board_and_the_records() -> None:
    wrong = []
    for found in all_imports("dashboard"):
        allowed = (*SHOWN, *COMMANDS) if found.file.match("dashboard/cli*.py") else SHOWN
        inside = any(found.module == name or found.module.startswith(f"{name}.") for name in allowed)
        if part_root(found.what) in PACKAGES and not inside:
            wrong.append(str(found))
    assert wrong == []


def test_no_user_interface_in_bench() -> None:
    assert [str(f) for f in all_imports("bench") if f.module.split(".")[0] in ("streamlit", "plotly")] == []


def test_no_torch_where_nothing_is_computed() -> None:
    wrong = [
        str(found)
        for found in all_imports("bench", "dashboard")
        if found.module.split(".")[0] in ("torch", "torchvision", "timm")
        and not found.what.typing_only
        and str(found.file.relative_to(ROOT)).startswith((*TORCH_FREE, "dashboard"))
    ]
    assert wrong == []


def test_planning_and_reading_load_no_torch() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for start in TORCH_FREE
        for file in ([ROOT / start] if start.endswith(".py") else sources(start))
        if file.name != "__init__.py"
    ]
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


READERS = {
    "json.load": (),
    "json.loads": (),
    "lzma.decompress": (),
    "lzma.open": (),
    "zlib.decompress": (),
    "gzip.decompress": (),
    "gzip.open": (),
    "pickle.load": (),
    "pickle.loads": (),
    "np.load": (),
    "torch.load": ("bench/zoo/state_dicts.py", "bench/zoo/train.py"),
    "yaml.load": (),
    "yaml.safe_load": (),
    "yaml.compose": ("bench/spec/origin.py",),
}
"""What reads a file's content without a limit of size or depth → where it may stand nevertheless."""


def test_what_comes_from_outside_comes_through_the_doors_with_limits() -> None:
    """``bench/reading.py`` for JSON and packed files, ``bench/spec/origin.py`` for YAML."""
    wrong = []
    for file in sources("bench") + sources("dashboard"):
        place = str(file.relative_to(ROOT))
        for node in ast.walk(ast.parse(text_of(file))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in READERS and place not in READERS[called]:
                wrong.append(f"{place}:{node.lineno} {called}")
    assert wrong == []


@pytest.mark.parametrize("widget", ["st.download_button", "st.plotly_chart"])
def test_charts_and_downloads_are_made_in_one_place(widget: str) -> None:
    """Where their button for SVG, their text for who cannot see, and what a click must not do, are settled."""
    calls = [
        str(file.relative_to(ROOT))
        for file in sources("dashboard")
        for node in ast.walk(ast.parse(text_of(file)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == widget
    ]
    assert calls == ["dashboard/common.py"]


def test_only_runtime_touches_the_accelerator() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for package in PACKAGES
        for file in sources(package)
        for node in ast.walk(ast.parse(text_of(file)))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.cuda" and file != ROOT / "bench/runtime.py"
    ]
    assert wrong == []


def method_names() -> set[str]:
    files = [file for kind in KINDS for file in (ROOT / "methods" / kind).glob("*.py")]
    return {file.stem for file in files if not file.stem.startswith("_")}


def ordinary_words() -> set[str]:
    """Names of the controls, which say what they are ("real", "noise", "uniform") and are words of every caption."""
    files = [file for kind in KINDS for file in (ROOT / "methods" / kind).glob("*.py") if not file.stem.startswith("_")]
    declared = r'^    control: (Control = "(upper|lower)"|bool = True)'
    return {file.stem for file in files if re.search(declared, text_of(file), re.MULTILINE)}


def test_only_controls_are_ordinary_words() -> None:
    assert 0 < len(ordinary_words()) < len(method_names()) / 4


TEXTS = (".py", ".css", ".js", ".json", ".yaml", ".csv", ".html")


def known_by_name(place: str, text: str, names: set[str], words: set[str]) -> list[str]:
    """Where a file, or its own name, has a method's name; of files that are no code all text counts but words."""
    if place.endswith(".py"):
        found = [f"{place}:{line}: {said!r}" for line, said in named(text, names, words)]
    else:
        found = [place for _ in named(f"x = {text!r}", names - words)]
    return found + [f"{place} is called so" for _ in named(f"x = {place!r}", names - words)]


@pytest.mark.parametrize("package", ["bench", "dashboard"])
def test_no_method_is_known_by_name(package: str) -> None:
    """No comparison, look-up, default, table, identifier or message of the engine or the dashboard has a method's name.

    What they must know of a method, the method declares: ``control``, ``needs``, ``access``, ``models``, ``offers``.
    Docstrings and comments may name one as an example, and a command's docstring is its help; no other text may.
    """
    names, words = method_names(), ordinary_words()
    files = [file for file in (ROOT / package).rglob("*.*") if file.suffix in TEXTS]
    places = [(str(file.relative_to(ROOT)), text_of(file)) for file in files]
    assert [wrong for place, text in places for wrong in known_by_name(place, text, names, words)] == []


NAMES, WORDS = {"kw", "mixmix", "prune_structured", "noise"}, {"noise"}


@pytest.mark.parametrize(
    "mutant",
    [
        "if source == 'kw': pass",
        "if source in ('a', 'mixmix'): pass",
        "if source.lower() == 'KW': pass",
        "match source:\n    case 'kw': pass",
        "table = {'kw': 1}",
        "table = dict(kw=1)",
        "def f(source='mixmix'): pass",
        "def f(source: Literal['kw', 'x']): pass",
        "source.startswith('kw')",
        "label = 'mixmix(mix=1)'",
        "label = 'zoo/mixmix+brecq'",
        "label = b'kw'",
        "hint = 'Try source=kw or another.'",
        "hint = f'{axis}=kw|{other}'",
        "label = f'{name}-mixmix'",
        "label = f'{\"mix\"}mix'",
        "label = 'mix' + 'mix'",
        "label = 'm' + ('ix' * 2 if x else '') or 'mi' + 'xmix'",
        "label = 'mix' * 2",
        "label = '%s%s' % ('k', 'w')",
        "label = 'k{}'.format('w')",
        "label = ''.join(['k', 'w'])",
        "label = 'wk'[::-1]",
        "import re\npattern = re.compile('^(KW|DeepX)-(.+)$')",
        "kind = 'prune-structured'",
        "kind = 'PruneStructured'",
        "SAME = {'Single-Model': 'KW'}",
        "PAIR = 'X+MixMix'",
        "kw_images = 3",
        "def run_mixmix(): pass",
        "class MixMixPage: pass",
        "class KWPage: pass",
        "self.kw",
        "f(kw=1)",
        "from x import mixmix",
        "import x as prune_structured",
        "def f(a, *, kw): pass",
        "lambda kw: 1",
        "global kw",
        "try: pass\nexcept E as kw: pass",
        "match x:\n    case [kw, *_]: pass",
        "if source == 'noise': pass",
        "table = {'noise': 1}",
        "table = dict(noise=1)",
        "label = f'{axis}=noise'",
        "only = 'source=noise'",
        "only = 'source=x|noise'",
        "label = 'noise(scale=1)'",
        "label = 'no' + 'ise'",
    ],
)
def test_a_method_known_by_name_is_caught(mutant: str) -> None:
    assert known_by_name("bench/x.py", mutant, NAMES, WORDS) != []


def test_a_method_known_by_name_beside_the_code_is_caught() -> None:
    assert known_by_name("dashboard/views/mixmix_page.py", "x = 1", NAMES, WORDS) != []
    assert known_by_name("bench/KwTable.py", "x = 1", NAMES, WORDS) != []
    assert known_by_name("dashboard/x.js", "// if (name === 'kw') {}", NAMES, WORDS) != []
    assert known_by_name("bench/x.json", '{"noise": "awkward"}', NAMES, WORDS) == []


@pytest.mark.parametrize(
    "text",
    [
        '"""An example: kw, mixmix(mix=1)."""',
        'def f():\n    """Examples: `bench run --only source=kw`."""',
        "x = 1  # as kw does",
        "def f(*args, **kwargs): pass",
        "kwarg = 'kwargs'",
        "remixmixed = 1",
        "text = 'awkward'",
        "pruned = 'prune'",
        "hint = 'structured pruning'",
        "caption = 'dashed: real images and noise'",
        "caption = 'lower (noise), none (a method)'",
        "noise = frame['top1']",
        "def share(value, noise, real): pass",
        "label = f'{x} noise'",
    ],
)
def test_what_only_looks_like_a_method_is_spared(text: str) -> None:
    assert known_by_name("bench/noise_floor.py", text, NAMES, WORDS) == []
