"""Methods by name: found as files, imported late, told apart, their parameters checked."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from bench.errors import SuiteError
from bench.interfaces import Compressor
from bench.spec.plugins import undeclared
from bench.spec.registry import Registry, changes, code_files, params_json, resolve_params, row_label
from tests.spec.conftest import ToyCatalogue


def test_a_public_file_is_a_method(package: str) -> None:
    assert Registry("sources", package).names() == ("dafl", "dream", "kw", "mixmix", "noise", "real")


def test_nothing_is_imported_before_it_is_asked_for(package: str) -> None:
    for name in [name for name in sys.modules if name.startswith(f"{package}.sources.")]:
        del sys.modules[name]
    registry = Registry("sources", package)
    registry.names()
    assert not any(name.startswith(f"{package}.sources.") for name in sys.modules)
    registry.get("kw")
    assert [name for name in sys.modules if name.startswith(f"{package}.sources.")] == [f"{package}.sources.kw"]


def test_the_methods_files_are_found_without_importing_them(package: str) -> None:
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        del sys.modules[name]
    found = code_files(package)
    assert found == sorted(found)
    assert {"kw.py", "real.py"} <= {file.name for file in found if file.parent.name == "sources"}
    assert not any(name.startswith(f"{package}.") for name in sys.modules)
    assert code_files("no_such_package") == []


def test_unknown_name(package: str) -> None:
    with pytest.raises(SuiteError) as caught:
        Registry("sources", package).get("mixmux", where="x.yaml:3: grid.source[0]")
    message = str(caught.value)
    for word in ["x.yaml:3: grid.source[0]: unknown source", "got: mixmux", "dream, kw", "did you mean: mixmix"]:
        assert word in message


def test_private_files_are_no_methods(package: str) -> None:
    with pytest.raises(SuiteError, match="unknown source"):
        Registry("sources", package).get("_shared")


def entry_point(name: str, value: str) -> metadata.EntryPoint:
    return metadata.EntryPoint(name, value, "datafree_bench.sources")


def test_entry_points_count_and_duplicates_are_refused(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [entry_point("plugin", f"{package}.sources.kw:METHOD")]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == "datafree_bench.sources" else [])
    registry = Registry("sources", package)
    assert registry.get("plugin").version == 1
    points.append(entry_point("kw", "elsewhere.kw"))
    with pytest.raises(SuiteError) as caught:
        Registry("sources", package).names()
    assert f"{package}.sources.kw" in str(caught.value)
    assert "elsewhere.kw" in str(caught.value)


def test_the_older_group_of_entry_points_counts_too(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {
        "bench.sources": metadata.EntryPoint("new", f"{package}.sources.kw:METHOD", "bench.sources"),
        "datafree_bench.sources": entry_point("old", "elsewhere.kw"),
    }
    monkeypatch.setattr(metadata, "entry_points", lambda group: [groups[group]])
    registry = Registry("sources", package)
    assert {"new", "old"} <= set(registry.names())
    assert registry.own("new")  # the package's own code under another name
    assert not registry.own("old")
    assert registry.brought("old") == "package elsewhere.kw"


def test_a_module_that_is_no_method(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [entry_point("broken", "no_such_module_here"), entry_point("empty", f"{package}.sources._shared")]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    registry = Registry("sources", package)
    with pytest.raises(SuiteError, match="cannot be imported"):
        registry.get("broken")
    with pytest.raises(SuiteError, match="exposes no method"):
        registry.get("empty")


@pytest.mark.parametrize(
    ("kind", "name", "old", "new", "missing"),
    [
        ("sources", "kw", "    offers = frozenset()\n", "", "offers"),
        ("sources", "kw", '"assigned"', '"assigned"; del control, version', "control, version"),
        ("sources", "kw", "def synthesize_batch", "def synthesise_batch", "synthesize_batch"),
        ("sources", "kw", "    def check", "    check = None\n    def _check", "check"),
        ("sources", "kw", "offers = frozenset()", 'offers = frozenset({"hook", "stream"})', "hook, stream"),
        ("compressors", "rtn", "deliveries, makes_zeros", "delivers, makes_zeros", "deliveries"),
        ("compressors", "rtn", "    def variants", "    def variant", "variants"),
    ],
)
def test_a_method_that_does_not_declare_all_is_refused_when_it_is_loaded(
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    name: str,
    old: str,
    new: str,
    missing: str,
) -> None:
    whole = Path(str(importlib.import_module(f"{package}.{kind}.{name}").__file__)).read_text()
    assert old in whole
    folder = tmp_path / f"lacking_{kind}" / kind
    folder.mkdir(parents=True)
    for path in (folder, folder.parent):
        (path / "__init__.py").touch()
    (folder / "mine.py").write_text(whole.replace(old, new))
    monkeypatch.syspath_prepend(tmp_path)
    for module in [module for module in sys.modules if module.startswith(folder.parent.name)]:
        del sys.modules[module]
    with pytest.raises(SuiteError) as caught:
        Registry(kind, folder.parent.name).get("mine", where="x.yaml:3: grid")
    assert "x.yaml:3: grid: " in str(caught.value)
    assert f"without {missing}\n" in str(caught.value)


def test_an_offer_of_one_word_needs_nothing_behind_it(package: str, tmp_path: Path) -> None:
    """Of a compressor that takes a teacher; "units" asks for a method, and says so beside it."""
    method = Registry("compressors", package).get("rtn")

    class Taught(type(method)):  # type: ignore[misc]
        offers = frozenset({"teacher"})

    class Half(Taught):
        offers = frozenset({"teacher", "units"})

    assert undeclared(Taught(), Compressor) == ()
    assert undeclared(Half(), Compressor) == ("units",)


def test_every_built_in_method_declares_all_and_is_read_without_torch() -> None:
    """Also what a plan asks of it: parameters of every preset, batch sizes, variants."""
    code = """
import sys
from bench.interfaces import Setting
from bench.spec.registry import Registry, resolve_params
for kind in ("sources", "compressors"):
    registry = Registry(kind)
    for name in registry.names():
        method = registry.get(name)
        for preset in method.presets:
            params = resolve_params(method, preset, {})
            assert kind != "sources" or method.batch_size(params) > 0
            assert kind != "compressors" or method.variants(params, Setting(4, 4))
        heavy = {"torch", "timm", "torchvision"} & sys.modules.keys()
        assert not heavy, f"{name} imports {heavy}"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_presets_overlay_defaults_and_values_overlay_presets(catalogue: ToyCatalogue) -> None:
    method = catalogue.sources.get("kw")
    assert resolve_params(method, "mini", {}).iterations == 10  # type: ignore[attr-defined]
    assert resolve_params(method, "paper", {}).iterations == 1000  # type: ignore[attr-defined]
    assert resolve_params(method, "paper", {"iterations": 5}).iterations == 5  # type: ignore[attr-defined]
    assert params_json(resolve_params(method, "mini", {"mix": 2})) == {
        "iterations": 10,
        "mix": 2,
        "data_mixing": True,
        "rate": "auto",
        "batch": 32,
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"iteration": 5}, ["unknown parameter of kw", "did you mean: iterations"]),
        ({"iterations": "5"}, ["wrong type", "iterations", "a whole number"]),
        ({"iterations": 0}, ["not allowed", "greater than or equal to 1"]),
        ({"data_mixing": 1}, ["wrong type", "true or false"]),
        ({"rate": "fast"}, ["rate: ", "'fast'", "a number or auto"]),
        ({"rate": "auot"}, ["did you mean: auto"]),
        ({"rate": float("nan")}, ["no finite number"]),
        ({"mix": None}, ["wrong type"]),
    ],
)
def test_bad_parameters(catalogue: ToyCatalogue, given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SuiteError) as caught:
        resolve_params(catalogue.sources.get("kw"), "mini", given, name="kw")
    for word in words:
        assert word in str(caught.value)


def test_a_preset_the_method_lacks(catalogue: ToyCatalogue) -> None:
    with pytest.raises(SuiteError, match="no such preset"):
        resolve_params(catalogue.sources.get("kw"), "thorough", {})


def test_labels_show_what_differs_from_the_preset(catalogue: ToyCatalogue) -> None:
    method = catalogue.sources.get("mixmix")

    def label(**given: Any) -> str:
        return row_label("mixmix", changes("mixmix", method, "mini", resolve_params(method, "mini", given)))

    assert label() == "mixmix"
    assert label(mix=3, iterations=10) == "mixmix"
    assert label(data_mixing=False, mix=1) == "mixmix(mix=1, data_mixing=false)"
    assert label(rate=0.5) == "mixmix(rate=0.5)"


def test_a_new_file_is_all_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "fresh_methods" / "sources"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry("sources", "fresh_methods").names() == ()
    (folder / "mine.py").write_text("METHOD = object()\n")
    assert Registry("sources", "fresh_methods").names() == ("mine",)
