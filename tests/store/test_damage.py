"""Whatever lies where a file of ours should lie: the product's own error or a sane read, never a traceback.

Each kind of file is damaged by the hundred (:mod:`tests.store.damage`), the digests of some made to fit again, so that
what lies behind them is reached.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from bench.board.index.frame import frame
from bench.board.index.imagesets import pixels, read_images, sheet
from bench.board.index.listing import Place, cell_row, cell_table, sound
from bench.data.fashion import read_idx
from bench.data.manifests import Manifest
from bench.errors import BenchError
from bench.interfaces import BitPolicy
from bench.spec.suite import load_suite
from bench.store.artifacts import ArtifactStore
from bench.store.bitmaps import pack_bits
from bench.store.checkpoints import CheckpointStore
from bench.store.files import check_layout, open_store
from bench.store.fp import StoredFp, read_fp, write_fp
from bench.store.index import INDEX, Listing
from bench.store.live import LiveRecord, LiveState, LiveTask, read_live, write_live
from bench.store.measured import read_measured
from bench.store.meta import ArtifactMeta, batch_name, seal
from bench.store.packs import PackedRecords
from bench.store.policies import PolicyStore, StoredPolicy
from bench.store.record_store import RecordStore
from bench.store.records import SCHEMA_VERSION, ResultRecord, record_bytes
from bench.store.seals import sealed
from bench.zoo.checkpoints import load_into, manifest
from bench.zoo.checkpoints import save as save_weights
from bench.zoo.seen import read_facts, write_facts
from tests.store.conftest import KEY, make_batch
from tests.store.damage import Case, broken, missing, texts, wrong

Make = Callable[..., ResultRecord]
META = ArtifactMeta(
    "kw",
    2,
    models=("net",),
    info={"class_names": ["a", "b"], "loss": 0.5, "audit": [{"what": "train", "n": 3}]},
    curves={"loss": [(0, 1.0), (9, 0.5)]},
    cost={"seconds": 1.5, "cpu_seconds": 1.0, "forward_equivalents": 3.0, "peak_memory_mib": None},
    provenance={"date": "2026-01-01", "finished": 1.79e9},
)


def survives(path: Path, cases: Iterable[Case], read: Callable[[], object], least: int) -> None:
    """Read the file damaged in every way: only BenchError may come of it."""
    count = refused = longest = 0
    for name, content in cases:
        path.write_bytes(content)
        count += 1
        try:
            read()
        except BenchError as error:
            refused += 1
            longest = max(longest, len(str(error)))
        except BaseException as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error!s:.300}") from error
    assert count >= least
    assert refused > 0
    assert longest < 5000  # characters of a sentence


def json_cases(value: dict[str, Any], seed: int, most: int = 120) -> Iterator[Case]:
    """Every damage of a JSON file."""
    yield from broken(json.dumps(value).encode(), seed)
    for name, changed in (*wrong(value, seed, most), *missing(value)):
        yield name, json.dumps(changed).encode()
    yield from texts(value, seed)


def full(make: Make) -> ResultRecord:
    """A record with something under every key."""
    return make(
        protocol={"weights": {"bits": 4}, "mean": [0.2], "std": [0.3], "left_in_float": ["fc"]},
        audit=[{"what": "train", "n": 3}],
        report={"layers": [{"layer": "conv1", "kind": "conv", "weight_bits": 4}], "stream": {"a": 1}},
        provenance={"finished": 1.79e9, "date": "2026-01-01", "torch": "2"},
        source_params={"iterations": 3},
        source_changes={"iterations": 3},
        policy_params={"a": [1]},
        model_digests=["d" * 64],
        curves={"loss": [(0, 1.0), (5, 0.25)]},
        test_digest="e" * 64,
        target_digest="f" * 64,
        protocol_id="p",
    )


def show(records: list[ResultRecord]) -> None:
    """What the board makes of records; all at once, since a frame takes its time."""
    records = sound(r.model_copy(update={"cell_id": f"{i:016x}"}) for i, r in enumerate(records))
    frame(records)
    cell_table(cell_row(record, Place("records/toy@1/x.json", 1, 1)) for record in records)


def test_records(tmp_path: Path, make_record: Make) -> None:
    store = RecordStore(tmp_path)
    record = full(make_record)
    path = store.write(record)
    raw = json.loads(path.read_bytes())

    def cases() -> Iterator[Case]:
        yield from broken(path.read_bytes(), 0)
        plain = {key: value for key, value in raw.items() if key != "digest"} | {"schema_version": 2}
        yield from json_cases(plain, 1, 60)
        for name, changed in wrong(plain | {"schema_version": SCHEMA_VERSION}, 2, 120):
            yield f"sealed, {name}", sealed(changed)
        old = {**plain, "schema_version": 1, "bits": "W4A4"}
        for name, changed in wrong(old, 3, 40):
            yield f"schema 1, {name}", json.dumps(changed).encode()

    found: list[ResultRecord] = []

    def read() -> None:
        assert (Listing(store).standing(KEY, "toy", 1) is None) == (not store.all())
        record = store.get("toy", 1, KEY)
        found.extend([record] if record else [])

    survives(path, list(cases()), read, 280)
    assert len(found) > 30
    show(found)


def test_packs(tmp_path: Path, make_record: Make) -> None:
    raw = full(make_record).model_dump(mode="json")
    path = tmp_path / "toy.json.xz"

    found: list[ResultRecord] = []

    def read() -> None:
        found.extend(read_measured(tmp_path))
        list(PackedRecords(tmp_path, tmp_path / "cache").items())

    def cases() -> Iterator[Case]:
        yield from broken(lzma.compress(json.dumps([raw]).encode()), 4)
        for name, content in (*texts([raw], 5), *((n, json.dumps([c]).encode()) for n, c in wrong(raw, 6, 60))):
            yield name, lzma.compress(content, preset=0)
        yield "a bomb", lzma.compress(b" " * (65 * 2**20), preset=0)

    survives(path, cases(), read, 100)
    show(found)


def test_a_pack_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "toy.json").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(BenchError, match="at most 67,108,864 are read"):
        read_measured(tmp_path)


def tensors(raw: bytes, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    """A safetensors file with another header."""
    length = int.from_bytes(raw[:8], "little")
    header = json.dumps(change(json.loads(raw[8 : 8 + length]))).encode()
    return len(header).to_bytes(8, "little") + header + raw[8 + length :]


def tensor_cases(raw: bytes, seed: int) -> Iterator[Case]:
    """Damaged safetensors: bytes, header, and our own metadata in it with a digest that fits."""
    yield from broken(raw, seed)
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    for name, changed in (*wrong(header, seed, 80), *missing(header)):
        yield f"header {name}", tensors(raw, lambda _, c=changed: c)
    for name, text in texts(header, seed):
        yield f"header {name}", len(text).to_bytes(8, "little") + text + raw[-64:]
    for length in (0, 2**20, 2**40, 2**63, 2**64 - 1):
        yield f"length {length}", length.to_bytes(8, "little") + raw[8:]
    meta = json.loads(header["__metadata__"]["meta"])
    forged = [json.dumps(c) for _, c in (*wrong(meta, seed, 60), *missing(meta))]
    for text in (*forged, *(t.decode() for _, t in texts(meta, seed))):
        facts = {"meta": text, "meta_digest": hashlib.sha256(text.encode()).hexdigest()}
        new = {**header, "__metadata__": {**header["__metadata__"], **facts}}
        yield f"meta {text[:60]}", tensors(raw, lambda _, n=new: n)


def test_image_sets(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.write_batch(KEY, 0, make_batch(0), META)
    path = store.objects.path(KEY, batch_name(0))
    raw = path.read_bytes()
    other = {"images": torch.zeros(0, 2**30, 8, 0), "labels": torch.zeros(2**30, 0)}

    def forged(**changed: torch.Tensor) -> bytes:
        from bench.store.tensors import digest_of, pack

        found = {"images": torch.zeros(2, 1, 4, 4), "labels": torch.zeros(2, dtype=torch.int64), **changed}
        return pack(found, digest_of(found, ("images", "labels", "soft_labels")), META, "x")

    def cases() -> Iterator[Case]:
        yield from tensor_cases(raw, 7)
        yield "no images", forged(images=torch.zeros(0, 1, 4, 4))
        yield "huge dimensions", forged(images=other["images"])
        yield "huge and empty", forged(labels=other["labels"])
        yield "many of nothing", forged(images=torch.zeros(2**30, 0, 4, 4))
        yield "flat", forged(images=torch.zeros(4))
        yield "whole numbers", forged(images=torch.zeros(2, 1, 4, 4, dtype=torch.int16))
        yield "half precision", forged(images=torch.zeros(2, 1, 4, 4, dtype=torch.bfloat16))
        yield "too few labels", forged(labels=torch.zeros(1, dtype=torch.int64))
        yield "labels that are no numbers", forged(labels=torch.full((2,), torch.nan))

    def read() -> None:
        first: BenchError | None = None
        for look in (_looked_at, lambda s: s.read(KEY, 4, "hard"), lambda s: s.meta(KEY, 0)):
            try:
                look(store)
            except BenchError as error:
                first = error
        if first:
            raise first

    survives(path, cases(), read, 250)


def _looked_at(store: ArtifactStore) -> None:
    found = read_images(store.root, KEY, 4)
    if found is not None:
        picture, classes = sheet(pixels(found.images, None, None), found.labels, 4)
        assert picture.size
        assert all(found.name_of(label) for label in classes)


def test_checkpoints_of_trainings(tmp_path: Path) -> None:
    store = CheckpointStore(ArtifactStore(tmp_path).objects)
    store.write(KEY, {"a": torch.zeros(3), "b": torch.zeros(2, 2)}, META)
    path = store.objects.path(KEY, "weights.safetensors")
    survives(path, tensor_cases(path.read_bytes(), 8), lambda: (store.read(KEY), store.meta(KEY)), 250)


def test_policies(tmp_path: Path) -> None:
    store = PolicyStore(ArtifactStore(tmp_path).objects)
    stored = StoredPolicy(BitPolicy.of({"stem": (8, 8), "last": (8, 32)}), META)
    store.write(KEY, stored)
    path = store.objects.path(KEY, "policy.json")
    content = json.loads(path.read_bytes())["content"]

    def cases() -> Iterator[Case]:
        yield from json_cases(json.loads(path.read_bytes()), 9)
        for name, changed in (*wrong(content, 10, 150), *missing(content)):
            yield f"sealed, {name}", seal(changed, "x")

    survives(path, cases(), lambda: store.read(KEY), 300)


def test_results_in_floating_point(tmp_path: Path) -> None:
    path = tmp_path / "fp" / "x.json"
    bits = np.arange(90) % 3 > 0
    given = StoredFp(
        full_top1=100 * float(bits.mean()),
        full_correct=pack_bits(bits),
        full_count=90,
        top1=100.0,
        correct=pack_bits(np.ones(7, dtype=bool)),
        count=7,
    )
    write_fp(path, given)
    assert read_fp(path) == given
    raw = given.model_dump()

    def cases() -> Iterator[Case]:
        yield from json_cases(json.loads(path.read_bytes()), 11)
        for name, changed in (*wrong(raw, 12, 100), *missing(raw)):
            yield f"sealed, {name}", sealed(changed)

    survives(path, cases(), lambda: read_fp(path), 250)
    path.write_bytes(sealed(raw | {"top1": 100 * 6 / 7}))
    with pytest.raises(BenchError, match="its bitmap says 100"):
        read_fp(path)


def test_what_a_run_says_of_itself(tmp_path: Path) -> None:
    open_store(tmp_path)
    task = LiveTask(worker=1, title="kw", kind="batch", began=1.0)
    ended = LiveRecord(cell_id=KEY, title="kw", status="ok", top1=50.0, ended=2.0)
    state = LiveState(
        pid=1, suite="toy", suite_version=1, preset="mini", workers=1, started=0.0, beat=1.0, tasks=3,
        running=(task,), records=(ended,), failures=(ended,), curve=((0.5, 1),), seconds_left=2.0,
    )  # fmt: skip
    write_live(tmp_path, state)
    path = tmp_path / "live.json"

    def read() -> None:
        found = read_live(tmp_path)
        if found is not None:
            found.phase(1000.0)

    survives(path, json_cases(json.loads(path.read_bytes()), 13), read, 150)


def test_the_mark_of_a_store(tmp_path: Path) -> None:
    open_store(tmp_path)
    survives(tmp_path / "store.json", json_cases({"schema": 1}, 14), lambda: check_layout(tmp_path), 60)


def test_notes_cost_time_and_nothing_else(tmp_path: Path, make_record: Make) -> None:
    """Of what stands in a store and in packs: advice, so that no damage is an error."""
    store = RecordStore(tmp_path / "store")
    store.write(make_record())
    packed = tmp_path / "packs"
    packed.mkdir()
    (packed / "toy.json").write_bytes(b"[" + record_bytes(make_record(cell_id="e" * 16)) + b"]")
    Listing(store)
    shipped = PackedRecords(packed, tmp_path / "cache")
    notes = {
        store.root / INDEX: lambda: Listing(store).standing(KEY, "toy", 1),
        next((tmp_path / "cache" / "packs").iterdir()): lambda: dict(PackedRecords(packed, tmp_path / "cache")),
    }
    for path, read in notes.items():
        good, expected = path.read_bytes(), read()
        head, _, body = good.partition(b"\n")
        kind = head.rpartition(b",")[0].decode()
        value = json.loads(body)
        forged = [json.dumps(c).encode() for _, c in wrong(value, 15, 80)] + [t for _, t in texts(value, 16)]
        forged = [f"{kind}, {zlib.crc32(b):08x}\n".encode() + b for b in forged]
        for content in (*(c for _, c in broken(good, 17)), *forged):
            path.write_bytes(content)
            try:
                found = read()
            except BenchError:  # a record whose place was forged has changed or is gone
                continue
            assert found == expected or found is None or content in forged
    assert dict(shipped)


def test_weights_and_their_manifests(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    save_weights(module, tmp_path, "net", {"dataset": "toy", "top1": 90.0, "macs": 6, "mean": [0.5], "std": [0.2]})
    weights, facts = tmp_path / "net.safetensors", tmp_path / "net.json"
    good = weights.read_bytes()
    plain = [*broken(good, 18), *((n, tensors(good, lambda _, c=c: c)) for n, c in wrong(_header(good), 19, 80))]
    plain += [("another network's", save({"weight": torch.zeros(9)}))]
    survives(weights, plain, lambda: load_into(torch.nn.Linear(3, 2), weights), 80)
    survives(facts, json_cases(json.loads(facts.read_bytes()), 20), lambda: manifest(tmp_path, "net"), 100)


def _header(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return found


def test_what_was_seen_of_libraries_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept in the cache folder: what is damaged is found out anew."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"x")

    def look() -> None:
        files = Manifest(tmp_path / "images", ["a.png"])
        assert files.contents(["a.png"]) == [hashlib.sha256(b"x").hexdigest()]
        assert files.digest("k", lambda: "d") == "d"

    look()
    write_facts("torch", "torch:x", {"network": "torch:x", "digest": "d"})
    kept = [*(tmp_path / "cache").rglob("*.json")]
    assert len(kept) == 2
    for path in kept:
        head, _, body = path.read_bytes().partition(b"\n")
        kind = head.rpartition(b",")[0]
        for _, content in json_cases(json.loads(body), 21, 60):
            path.write_bytes(kind + f", {zlib.crc32(content):08x}\n".encode() + content)  # a checksum that fits
            if "manifests" in path.parts:
                Manifest(tmp_path / "images", ["a.png"])
            else:
                read_facts("torch", "torch:x")
        path.unlink()
    look()


def test_idx_files(tmp_path: Path) -> None:
    import gzip

    header = b"\x00\x00\x08\x02" + (3).to_bytes(4, "big") + (4).to_bytes(4, "big")
    huge = b"\x00\x00\x08\x03" + b"\xff" * 12
    path = tmp_path / "x.gz"

    def cases() -> Iterator[Case]:
        for name, content in (*broken(header + bytes(12), 22, 10), ("huge", huge), ("overflow", huge + b"\xff" * 8)):
            yield name, gzip.compress(content)
        yield from broken(gzip.compress(header + bytes(12)), 23)
        yield "a bomb", gzip.compress(header + bytes(130 * 2**20), 1)

    survives(path, cases(), lambda: read_idx(path), 40)


SUITE = """suite: mine
version: 1
dataset: fashion_mnist
grid:
  source: [real, {kw: {iterations: 3, label: mine}}]
  target: [resnet18_w10]
  compressor: [rtn]
  bits: [W4A4]
images: 64
seeds: [0, 1]
claims:
- says: one
  better: {source: kw}
  worse: {source: real}
"""

YAML = {
    "hexadecimal": "0x" + "f" * 4000,
    "octal": "0o" + "7" * 4000,
    "digits": "9" * 6000,
    "negative": "-" + "9" * 400,
    "nan": ".nan",
    "infinity": "-.inf",
    "overflow": "1e999",
    "sexagesimal": ":".join(["59"] * 300),
    "deep": "[" * 3000 + "]" * 3000,
    "unpaired": "[" * 100_000,
    "alias of itself": "&a [*a]",
    "anchors": "&a [*b, *b]",
    "tag": "!!python/object/apply:os.system [ls]",
    "binary": "!!binary x",
    "date": "2024-13-45",
    "set": "!!set {a, b}",
    "null": "~",
    "escape": '"\\e[31mred"',
    "surrogate": '"\\ud800"',
    "list": "[1, [2, {a: 3}]]",
    "mapping": "{a: {b: 1}}",
}


def yaml_cases() -> Iterator[Case]:
    yield from broken(SUITE.encode(), 24, 20)
    lines = SUITE.splitlines()
    for i, line in enumerate(lines):
        key, colon, _ = line.partition(": ")
        yield f"no line {i}", "\n".join(lines[:i] + lines[i + 1 :]).encode()
        for name, value in YAML.items() if colon else ():
            yield (
                f"{key}: {name}",
                "\n".join([*lines[:i], f"{key}: {value}", *lines[i + 1 :]]).encode(),
            )
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    yield "billion laughs", "\n".join(bomb).encode()
    yield "too many items", f"seeds: [{', '.join(map(str, range(10_001)))}]".encode()
    yield "long text", SUITE.replace("mine", "x" * 300_000).encode()
    yield "too large", b"# " + b"x" * 1_000_001


def test_suites(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE)
    assert load_suite(path).suite == "mine"
    survives(path, yaml_cases(), lambda: load_suite(path), 200)


def test_how_many_items_a_list_may_have(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.replace("[0, 1]", f"[{', '.join(map(str, range(10_001)))}]"))
    with pytest.raises(BenchError, match="a list of more than 10,000 items"):
        load_suite(path)


@pytest.mark.parametrize("value", ["0x" + "f" * 4000, "9" * 4000, "-9223372036854775808", "9223372036854775808"])
def test_a_version_of_absurd_length(tmp_path: Path, value: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.replace("version: 1", f"version: {value}"))
    with pytest.raises(
        BenchError, match=r"mine\.yaml:2: version: the (number is too large|value cannot be read)"
    ) as caught:
        load_suite(path)
    assert len(str(caught.value)) < 1000
