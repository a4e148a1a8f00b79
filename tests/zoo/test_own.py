"""A network that the user's own function builds, and weights as trainings leave them: registered, planned, run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from bench.cli.app import app
from bench.data.datasets import get_dataset
from bench.data.table import spec_of
from bench.errors import BenchError, GateClosed, SuiteError, WeightsError
from bench.run import session
from bench.run.fp import FpResult
from bench.zoo import factories
from bench.zoo.bring import Own, bring
from bench.zoo.cached import load_cached
from bench.zoo.libraries import check_student, create
from bench.zoo.matching import matched
from bench.zoo.names import is_factory, is_outside
from bench.zoo.registered import data_key, expected_top1
from bench.zoo.state_dicts import LoadedState
from bench.zoo.targets import check_weights, info, load, membership
from tests import pick

HERE = Path(__file__).parent
NAME = "own_pkg.nets:grey"
RESNET = "fashion_mnist/resnet18_w10"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a package of the user's in it; a cache folder of the test's own."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_pkg").mkdir()
    (tmp_path / "own_pkg" / "__init__.py").write_text("")
    shutil.copy(HERE / "own_resnet.py", tmp_path / "own_pkg" / "nets.py")
    yield tmp_path
    forget()


def forget() -> None:
    """As in a new process: the user's modules are read again."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_pkg"]:
        del sys.modules[name]


def checkpoint(path: Path, name: str = NAME, **more: Any) -> dict[str, Tensor]:
    """What parallel training leaves in an old torch's file, random weights; returns its plain state dict."""
    torch.manual_seed(7)
    state = {key: value.clone() for key, value in factories.create(name).state_dict().items()}
    for key, value in state.items():
        if value.is_floating_point():
            value += 0.05 * torch.rand_like(value)
            state[key] = value
    wrapped = {f"module.{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    content = {"state_dict": wrapped, "best_prec1": 9.5, **more}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return state


def added(*words: str) -> str:
    done = CliRunner().invoke(app, ["zoo", "add", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_names() -> None:
    assert is_factory("resnet:build")
    assert is_factory("my_pkg.my_module:build")
    assert not any(map(is_factory, ("timm:resnet18", "torchvision:resnet18", "imagefolder:/x@3/net", "net", "a:b:c")))
    assert is_outside("timm:resnet18")
    assert not is_outside("fashion_mnist/resnet18_w10")


def test_a_known_network_has_its_known_size(own: Path) -> None:
    """0.27 million parameters (He et al., table 6): 19 convolutions of 3×3, 19 batch norms, one linear layer."""
    net = factories.create("own_pkg.nets:resnet20")
    convolutions = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert sum(p.numel() for p in net.parameters()) == convolutions + norms + 64 * 10 + 10


def test_a_suite_runs_on_the_users_network(own: Path) -> None:
    """Registered, planned without being built, compressed by the simplest method and by one that rebuilds blocks."""
    pick.need_small_runs()
    learned = pick.name("compressors", accepts="bits", offers="units", params=("iterations",))
    weights = own / "resnet20-12fca82f.th"
    state = checkpoint(weights)
    said = added("--network", NAME, str(weights), "--data", "digits")
    for words in ("under 'state_dict' are taken", "best_prec1 = 9.5", "'module.' taken off", "19 counters"):
        assert words in said
    known = info(NAME)
    assert (known.classes, known.shape, known.layers, known.batch_norms) == (10, (1, 32, 32), 20, 19)
    assert (known.mean, known.std) == ((0.305,), (0.324,))
    handle = load(NAME)
    assert torch.equal(handle.module.state_dict()["conv1.weight"], state["conv1.weight"])
    check_weights(NAME)

    steps = pick.values("compressors", learned, iterations=2, batch=8)
    source = pick.values("sources", pick.UPPER, batch=8)
    (own / "own.yaml").write_text(f"""
suite: own
version: 1
dataset: digits
grid: {{source: [{source}], target: ["{NAME}"], compressor: [{pick.ROUND}, {steps}], bits: [W8A8]}}
images: 10
seeds: [0]
""")
    options = session.Options(suite=str(own / "own.yaml"), store=own / "store", workers=1, tracker="none")
    records = session.run(options, Console(quiet=True))[1]  # in a process of its own, which imports the module anew
    assert [r.status for r in records] == ["ok", "ok"], [r.reason for r in records]
    assert {r.metrics["fp_top1"] for r in records} == {known.fp_top1}


def test_code_is_part_of_a_networks_identity(own: Path) -> None:
    checkpoint(own / "a.th")
    first = bring(NAME, own / "a.th", own=Own(data="digits"))
    assert set(first["sources"]) == {"own_pkg.nets"}
    path = own / "own_pkg" / "nets.py"
    path.write_text(path.read_text().replace("F.relu(out)", "F.relu6(out)"))
    forget()
    for refused in (lambda: load(NAME), lambda: check_weights(NAME)):
        with pytest.raises(WeightsError, match="code has changed") as caught:
            refused()
        assert caught.value.got == "own_pkg.nets"
    second = bring(NAME, own / "a.th", own=Own(data="digits"))
    assert second["sha256"] == first["sha256"]
    assert second["digest"] != first["digest"]
    assert load(NAME).digest == second["digest"]


def test_layers_of_other_modules_count_and_libraries_do_not(own: Path) -> None:
    (own / "own_pkg" / "builds.py").write_text("from own_pkg import nets\n\ndef grey():\n    return nets.grey()\n")
    name = "own_pkg.builds:grey"
    module = factories.create(name)
    assert set(factories.sources_of(name, module)) == {"own_pkg.builds", "own_pkg.nets"}
    assert membership(name, [NAME]) == "held-out architecture"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_pkg.gone:grey", "no such module"),
        ("nowhere:grey", "no such module"),
        ("own_pkg.nets:gray", "did you mean: grey"),
        ("own_pkg.nets:asks", "called without arguments"),
        ("own_pkg.nets:nothing", "builds no network"),
        ("own_pkg.broken:net", "cannot be imported"),
    ],
)
def test_what_builds_no_network_is_named(own: Path, name: str, said: str) -> None:
    (own / "own_pkg" / "broken.py").write_text("import no_such_library\n")
    with pytest.raises(SuiteError, match=said) as caught:
        bring(name, own / "a.th", own=Own(data="digits"))
    assert caught.value.where == name


def test_what_must_be_said_is_asked_for(own: Path) -> None:
    checkpoint(own / "a.th")
    for asked, said in (
        (Own(), "--data"),
        (Own(data="digits", classes=10), "Leave --classes out"),
        (Own(data="fashion_mnist", mean=(0.1, 0.1, 0.1)), "mean and std do not fit"),
        (Own(data="cifar10"), "does not run on images of this size"),
        (Own(data="digits", top1=99.0), "do not reach what they should"),
    ):
        with pytest.raises(BenchError, match=said):
            bring(NAME, own / "a.th", own=asked)
    with pytest.raises(WeightsError, match="nobody brought weights") as caught:
        info(NAME)
    assert f"bench zoo add {NAME} FILE" in str(caught.value)
    with pytest.raises(SuiteError, match="a student is"):
        check_student(NAME, spec_of("digits"))


def test_a_function_may_load_its_weights_itself(own: Path) -> None:
    said = added("own_pkg.nets:resnet20", "--pretrained", "--data", "cifar10", "--top1", "91.7")
    assert "those that the function builds" in said
    assert "top-1 91.70 as you say, not measured" in said
    known = info("own_pkg.nets:resnet20")
    assert (known.mean, known.fp_top1) == ((0.4914, 0.4822, 0.4465), 91.7)


def test_accuracy_is_registered_by_data_set(own: Path) -> None:
    """The same weights on two data sets have two values; what holds on a third is not known."""
    for folder, level in (("dark", 40), ("bright", 200)):
        for split in ("train", "test"):
            for k in range(10):
                (own / folder / split / str(k)).mkdir(parents=True)
                Image.new("RGB", (32, 32), (level, 9 * k, level)).save(own / folder / split / str(k) / "0.png")
    name = "own_pkg.nets:small"
    checkpoint(own / "a.th", name)
    constants = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    with pytest.raises(SuiteError, match="--mean R,G,B"):
        bring(name, own / "a.th", own=Own(data="dark@32"))
    first = bring(name, own / "a.th", own=Own(data="dark@32", **constants))
    bring(name, own / "a.th", own=Own(data="cifar10", top1=33.0, **constants))
    second = bring(name, own / "a.th", own=Own(data="bright@32", **constants))
    assert len(second["registered"]) == 3
    known = load(name)
    assert expected_top1(known, "imagefolder:dark@32", "") == first["top1"]  # from here, and from anywhere
    assert expected_top1(known, f"imagefolder:{own}/bright@32", "") == second["top1"]
    assert expected_top1(known, "cifar10", "") == 33.0
    assert expected_top1(known, "elsewhere", get_dataset("imagefolder:dark@32").test_digest()) == first["top1"]
    assert expected_top1(known, "fashion_mnist", "x") is None
    bring(name, own / "a.th", own=Own(data="cifar10", top1=34.0))  # other constants: what held with those is gone
    assert expected_top1(load(name), "imagefolder:dark@32", "") is None
    assert expected_top1(load(RESNET), "fashion_mnist", "") == info(RESNET).fp_top1


def test_a_data_sets_own_size_need_not_be_said() -> None:
    names = ("imagenet@224", "imagenet@256", "activitynet@224x16", "digits", "digits+held_out")
    assert [data_key(name) for name in names] == ["imagenet", *names[1:]]


def test_the_gate_compares_with_what_is_registered_there() -> None:
    handle = replace(load(RESNET), registered={"digits": 50.0, "abc": 70.0})
    FpResult(50.2, 50.2, "").check(handle, "digits")
    FpResult(10.0, 10.0, "").check(handle, "fashion_mnist")
    FpResult(10.0, 10.0, "").check(handle, "digits+held_out")
    for result, where in ((FpResult(50.4, 50.4, ""), "digits"), (FpResult(50.0, 50.0, "abc"), "elsewhere")):
        with pytest.raises(GateClosed, match="registered"):
            result.check(handle, where)


# Names


def net() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2))
    return nn.ModuleDict({"layer1": nn.Sequential(body), "fc": nn.Linear(2, 2)})


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key,
        lambda key: f"module.{key}",
        lambda key: f"_orig_mod.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: f"_orig_mod.module.model.{key}",
        lambda key: f"model.backbone.{key}",
        lambda key: key.replace("layer1.", "layer1.module."),
        lambda key: key.replace("layer1.0.", "layer1.0._orig_mod."),
    ],
)
@pytest.mark.parametrize("extra", [(), ("criterion.weight", "n_averaged")])
def test_names_as_trainings_leave_them(rename: Any, extra: tuple[str, ...]) -> None:
    module = net()
    state = module.state_dict()
    given = {rename(key): value for key, value in state.items()} | {key: torch.ones(1) for key in extra}
    found = matched(module, LoadedState(given), "a.th")
    assert found.state.keys() == state.keys()
    assert all(torch.equal(found.state[key], value) for key, value in state.items())
    assert any("left out" in words and all(key in words for key in extra) for words in found.notes) == bool(extra)
    assert bool(found.notes) == (bool(extra) or set(given) != set(state))


def test_a_network_whose_own_names_have_the_prefix() -> None:
    module = nn.ModuleDict({"module": net()})
    found = matched(module, LoadedState({f"net.{key}": value for key, value in module.state_dict().items()}), "a.th")
    assert found.state.keys() == module.state_dict().keys()


@pytest.mark.parametrize("extra", ["layer1.1.0.weight", "layer1.0.0.bias", "layer1.0.2.gamma"])
def test_a_tensor_within_the_network_is_another_networks(extra: str) -> None:
    """A deeper network's weights hold all of a shallower one's: they are not taken for it."""
    module = net()
    found = matched(module, LoadedState(module.state_dict() | {extra: torch.ones(2)}), "a.th")
    assert extra in found.state


def test_a_deeper_networks_weights_are_refused(own: Path) -> None:
    torch.save(factories.create("own_pkg.nets:resnet32").state_dict(), own / "deep.th")
    with pytest.raises(WeightsError, match="belong to another network"):
        bring("own_pkg.nets:resnet20", own / "deep.th", own=Own(data="cifar10"))


def test_counters_of_profilers_are_left_out() -> None:
    module = net()
    extra = {"layer1.0.0.total_ops": torch.ones(1), "total_params": torch.ones(1)}
    found = matched(module, LoadedState(module.state_dict() | extra), "a.th")
    assert found.state.keys() == module.state_dict().keys()


def test_two_networks_in_one_file_are_asked_about() -> None:
    state = {f"{who}.{key}": value for who in ("student", "teacher") for key, value in net().state_dict().items()}
    with pytest.raises(WeightsError, match="several networks"):
        matched(net(), LoadedState(state), "a.th")


# The libraries' own caches


def test_weights_from_timms_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of huggingface_hub's cache, filled by hand."""
    from huggingface_hub import constants

    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    name = "timm:test_resnet"
    with pytest.raises(WeightsError, match="nothing is downloaded") as caught:
        bring(name, None)
    assert "huggingface_hub" in str(caught.value)
    module = create(name)
    repo = module.pretrained_cfg["hf_hub_id"].replace("/", "--")
    snapshot = tmp_path / "hub" / f"models--{repo}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    state = {key: value + 1 for key, value in module.state_dict().items()}
    save_file(state, snapshot / "model.safetensors")
    found, place = load_cached(name, module)
    assert place.name == "model.safetensors"
    assert all(torch.equal(found.state[key], value) for key, value in state.items())
    made = bring(name, None)
    assert any("from the cache: model.safetensors" in words for words in made["said"])
    with pytest.raises(SuiteError, match="the library's head"):
        bring(name, None, own=Own(classes=3))


def test_weights_from_torchvisions_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose bytes are not what its name says is refused."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "torchvision:squeezenet1_1"
    with pytest.raises(WeightsError, match="not in its cache") as caught:
        load_cached(name, create(name))
    place = Path(str(caught.value.got).removeprefix("no "))
    place.parent.mkdir(parents=True)
    torch.save(create(name).state_dict(), place)
    with pytest.raises(WeightsError, match="damaged") as damaged:
        load_cached(name, create(name))
    assert damaged.value.where == str(place)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no network is named"),
        (["timm:resnet18"], "weights come from one place"),
        (["timm:resnet18", "a.th", "--pretrained"], "weights come from one place"),
        (["timm:resnet18", "a.th", "--network", "m:f"], "named twice"),
        (["resnet18", "a.th"], "a function of yours"),
    ],
)
def test_commands_that_say_too_little_or_too_much(words: list[str], said: str) -> None:
    with pytest.raises(BenchError, match=said):
        CliRunner().invoke(app, ["zoo", "add", *words], catch_exceptions=False)


def test_the_manifest_says_how_the_file_was_read(own: Path) -> None:
    checkpoint(own / "a.th")
    bring(NAME, own / "a.th", own=Own(data="digits"))
    (path,) = (own / "cache" / "zoo" / "imagenet").glob("*.json")
    fact = json.loads(path.read_text())
    assert fact["network"] == NAME
    assert any("best_prec1" in words for words in fact["said"])
    assert fact["registered"]["digits"]["measured"]
