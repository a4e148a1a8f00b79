"""Names, membership and loading, on the shipped weights and on those of a folder of the test's own."""

from __future__ import annotations

import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from bench.data.datasets import get_dataset
from bench.errors import SuiteError, WeightsError
from bench.notes import read_note, write_note
from bench.zoo import brought, checkpoints, seen, targets
from bench.zoo.bring import bring
from bench.zoo.libraries import check_build
from bench.zoo.macs import network_facts
from bench.zoo.names import architecture_of
from bench.zoo.table import GROUPS, entry
from bench.zoo.targets import check_weights, info, load, membership, target_names, zoo_names
from bench.zoo.train import cycles, recipe, top1

DATASET = "fashion_mnist"
SHIPPED = [fact["name"] for fact in checkpoints.manifests(checkpoints.SHIPPED / DATASET)]


def test_the_shipped_targets_and_zoos_are_listed_with_their_data_set() -> None:
    assert f"{DATASET}/resnet18_w10" in target_names(DATASET)
    for group in GROUPS:
        found = zoo_names(DATASET, group)
        assert tuple(name.split("/")[1] for name in found) == GROUPS[group]
        assert not set(found) & set(target_names(DATASET))
    with pytest.raises(SuiteError) as caught:
        zoo_names(DATASET, "mobil")
    assert caught.value.nearest == "mobile"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision:mnasnet1_0", "mnasnet"),
        ("torchvision:mnasnet0_5", "mnasnet"),
        ("torchvision:shufflenet_v2_x1_5", "shufflenetv2"),
        ("torchvision:wide_resnet50_2", "wideresnet50"),
        ("torchvision:regnet_y_1_6gf", "regnety16gf"),
        ("torchvision:efficientnet_b0", "efficientnetb0"),
        ("timm:mobilenetv2_050.lamb_in1k", "mobilenetv2"),
    ],
)
def test_a_librarys_width_and_weight_tag_are_no_part_of_the_architecture(name: str, expected: str) -> None:
    assert architecture_of(name) == expected


@pytest.mark.parametrize(
    ("target", "models", "expected"),
    [
        ("mobilenetv2_w035", ["resnet34_w8", "mobilenetv2_w035_s1"], "same architecture"),
        ("mobilenetv2_w035", ["mobilenetv2_w035_s1", "mobilenetv2_w035"], "same checkpoint"),
        ("resnet18_w10", ["resnet34_w8", "seresnet18_w10", "resnet50d_w8"], "held-out architecture"),
        ("resnet50_w8", ["resnet50d_w8"], "same architecture"),  # docs/methods/sources.md#membership
        ("resnet18_w10", [], "none"),
    ],
)
def test_membership(target: str, models: list[str], expected: str) -> None:
    assert membership(f"{DATASET}/{target}", [f"{DATASET}/{name}" for name in models]) == expected


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network_is_what_its_manifest_says(name: str) -> None:
    fact, item = checkpoints.manifest(checkpoints.SHIPPED / DATASET, name), entry(name)
    handle = load(f"{DATASET}/{name}")
    assert handle.digest == fact["digest"] == checkpoints.digest_of(handle.module.state_dict())
    fresh = network_facts(handle.module, (1, 32, 32))
    assert {key: fact[key] for key in fresh} == fresh
    assert handle.macs == fresh["macs"]
    assert (handle.architecture, handle.family) == (item.architecture, item.family)
    assert (fact["architecture"], fact["family"], fact["seed"]) == (item.architecture, item.family, item.seed)
    assert (handle.mean, handle.std) == ((0.219,), (0.332,))
    assert handle.fp_top1 == fact["top1"] == fact["top1_reloaded"]
    assert fact["train_images"] == 60_000
    either = {"autocast": "bfloat16 or none, as the processor has it"}
    assert fact["recipe"] | either == recipe(item) | either
    first, begun = cycles(item)[0], fact["first_cycle"]
    written = begun["recipe"]
    assert (written["epochs"], written["lr"], written["augment"]) == (first.epochs, first.lr, "hflip per image")
    assert fact["top1"] >= begun["top1"] - 0.3  # robust to views, and no worse without
    assert not any(m.training for m in handle.module.modules())
    assert not any(p.requires_grad for p in handle.module.parameters())
    known = info(f"{DATASET}/{name}")
    assert known.batch_norms == sum(isinstance(m, nn.BatchNorm2d) for m in handle.module.modules())
    assert known.layers == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in handle.module.modules())
    assert (known.digest, known.mean, known.std) == (handle.digest, handle.mean, handle.std)
    assert (known.classes, known.shape, known.fp_top1) == (10, (1, 32, 32), handle.fp_top1)
    assert (known.parameters, known.macs) == (fact["parameters"], handle.macs)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network_recognises_what_it_was_trained_for(name: str) -> None:
    data, handle = get_dataset(DATASET), load(f"{DATASET}/{name}")
    measured = top1(handle.module, data.test_batches(500), handle.mean, handle.std)
    assert handle.fp_top1 is not None
    # 500 images: three standard errors of 90 % are 4 points; `bench zoo verify` measures all 10,000.
    assert abs(measured - handle.fp_top1) < 4.5
    assert handle.fp_top1 > 89


def test_shipped_networks_with_another_seed_are_other_networks() -> None:
    facts = [checkpoints.manifest(checkpoints.SHIPPED / DATASET, name) for name in SHIPPED]
    assert len({fact["digest"] for fact in facts}) == len(facts)


def test_the_shipped_weights_are_small() -> None:
    folder = checkpoints.SHIPPED / DATASET
    assert sum(p.stat().st_size for p in folder.glob("*.safetensors")) <= 30_000_000


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder of the test's own with one shipped network."""
    for suffix in ("json", "safetensors"):
        shutil.copy(checkpoints.SHIPPED / DATASET / f"resnet18_w10.{suffix}", tmp_path)
    monkeypatch.setattr(checkpoints, "weights_folder", lambda _: tmp_path)
    return tmp_path


def test_damaged_and_missing_weights_are_refused_before_and_at_loading(copy: Path) -> None:
    name, path = f"{DATASET}/resnet18_w10", copy / "resnet18_w10.safetensors"
    check_weights(name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    for use in (check_weights, load):
        with pytest.raises(WeightsError, match="damaged") as caught:
            use(name)
        assert str(path) in str(caught.value)
    path.unlink()
    for use in (check_weights, load):
        with pytest.raises(WeightsError, match="missing"):
            use(name)
    (copy / "resnet18_w10.json").unlink()
    for ask in (check_weights, load, info):
        with pytest.raises(WeightsError, match="bench zoo train"):
            ask(name)
    assert target_names(DATASET) == ()
    # A zoo of which a part is trained must not pass for the whole: the missing network stays named.
    assert f"{DATASET}/densenet_g8" in zoo_names(DATASET, "full")


def test_names_without_data_set_and_unknown_names_are_errors() -> None:
    with pytest.raises(WeightsError, match="DATASET/NAME"):
        load("resnet18_w10")
    with pytest.raises(SuiteError) as caught:
        load(f"{DATASET}/resnet18_w11")
    assert caught.value.nearest == "resnet18_w10"


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "torchvision:squeezenet1_1"])
def test_a_librarys_network_has_seeded_random_weights(name: str) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again = load(name), load(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.digest == again.digest
    assert first.fp_top1 is None
    assert first.macs > 1e7
    assert not first.module.training
    check_weights(name)


def test_what_is_known_of_a_librarys_network_is_kept_and_found_out_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    name = "timm:mobilenetv3_small_050"
    built: list[str] = []
    create = brought.create
    monkeypatch.setattr(brought, "create", lambda asked, *head: built.append(asked) or create(asked, *head))
    known, handle = info(name), load(name)
    assert (known.digest, known.mean, known.std, known.macs) == (handle.digest, handle.mean, handle.std, handle.macs)
    assert (known.classes, known.shape, known.fp_top1) == (1000, (3, 224, 224), None)
    assert built == [name, name]
    assert info(name) == known
    (path,) = (tmp_path / "networks").iterdir()
    fact = read_note(path, seen.KIND)
    for damaged in ({**fact, "network": "timm:other"}, {"network": name}, None):
        path.write_text("{}") if damaged is None else write_note(path, seen.KIND, damaged)
        built.clear()
        assert info(name) == info(name) == known
        assert built == [name]
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda package: version(package) + ".1")
    assert info(name) == known
    assert built == [name, name]
    assert len(list(path.parent.iterdir())) == 2


def test_nothing_is_kept_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "file"))
    name = "torchvision:squeezenet1_1"
    check_build(name, 3)
    assert info(name).digest == load(name).digest


def test_a_librarys_names_are_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    check_build("timm:resnet18.a1_in1k", 1)
    monkeypatch.setitem(sys.modules, "timm", None)  # importing it fails from now on
    check_build("timm:resnet18", 1)
    with pytest.raises(ImportError):  # a name that is not known is looked for in the library itself
        check_build("timm:resnet81", 1)


def test_brought_weights_are_loaded_measured_and_guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    name = "timm:mobilenetv3_small_050"
    random = load(name)
    state = {key: value.clone() for key, value in random.module.state_dict().items()}
    state["classifier.bias"] += torch.arange(1000) * 1e3  # answers class 999, whatever it sees
    save_file(state, tmp_path / "mine.safetensors")
    for k, synset in ((0, "n01440764"), (999, "n15075141"), (998, "n13133613")):
        folder = tmp_path / "imagenet" / "val" / synset
        folder.mkdir(parents=True)
        Image.new("RGB", (260, 240), (k % 255, 9, 9)).save(folder / "a.png")
    made = bring(name, tmp_path / "mine.safetensors")
    assert made["top1"] == pytest.approx(100 / 3)
    handle = load(name)
    assert handle.fp_top1 == made["top1"]
    assert handle.digest == made["digest"] == info(name).digest != random.digest
    assert (info(name).classes, info(name).layers) == (1000, made["layers"])
    assert torch.equal(handle.module.state_dict()["classifier.bias"], state["classifier.bias"])
    check_weights(name)
    with pytest.raises(WeightsError, match="another network"):
        bring("timm:mobilenetv3_small_075", tmp_path / "mine.safetensors")
    assert load("timm:mobilenetv3_small_075").fp_top1 is None  # nothing half-written stayed behind
    with pytest.raises(SuiteError, match="library"):
        bring("resnet18_w10", tmp_path / "mine.safetensors")
    path = next((tmp_path / "zoo" / "imagenet").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    for use in (check_weights, load):
        with pytest.raises(WeightsError, match="damaged"):
            use(name)


@pytest.mark.parametrize(("name", "near"), [("timm:resnet5", "resnet50"), ("torchvision:squeezenet", "squeezenet1_0")])
def test_an_unknown_library_network_comes_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load(name)
    assert caught.value.nearest is not None
    assert caught.value.nearest[:6] == near[:6]


def test_another_networks_files_under_this_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo network under a target's name would undo "the zoo never holds a target's checkpoint"."""
    shipped = checkpoints.weights_folder("fashion_mnist")
    folder = tmp_path / "fashion_mnist"
    folder.mkdir()
    for ending in ("json", "safetensors"):
        content = (shipped / f"mobilenetv2_w035_s1.{ending}").read_bytes()
        (folder / f"mobilenetv2_w035.{ending}").write_bytes(content)
    (folder / "resnet18_w10.json").write_text("{}")
    monkeypatch.setattr(checkpoints, "weights_folder", lambda _: folder)
    with pytest.raises(WeightsError, match="another network"):
        targets.load("fashion_mnist/mobilenetv2_w035")
    with pytest.raises(WeightsError, match="damaged"):
        targets.info("fashion_mnist/resnet18_w10")
