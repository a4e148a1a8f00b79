"""Image sets: prefixes, digests, damage, one writer per key, and a writer killed in the middle."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from bench.errors import StoreError
from bench.interfaces import ImageBatch
from bench.store.artifacts import ArtifactStore
from bench.store.meta import ArtifactMeta
from bench.store.objects import DamagedArtifact
from tests.store.conftest import KEY, make_batch

META = ArtifactMeta(
    source="kw",
    version=1,
    models=("toy/net",),
    info={"clipped": 0.1},
    curves={"loss": [(0, 2.0), (1, float("nan")), (2, 1.0)]},
    cost={"seconds": 2.0, "forward_equivalents": 10.0, "peak_memory_mib": 100.0},
)


def fill(store: ArtifactStore, batches: int = 3) -> None:
    for index in range(batches):
        store.write_batch(KEY, index, make_batch(index), META)


def test_a_prefix_reads_back_bit_by_bit(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    fill(store)
    found = store.read(KEY, 20, "assigned")
    expected = torch.cat([make_batch(i).images for i in range(3)])[:20]
    assert torch.equal(found.images, expected)
    assert found.labels is not None
    assert found.labels.dtype == torch.int64
    assert found.labels.shape == (20,)
    assert found.soft_labels is None
    assert (found.label_kind, found.synth_id) == ("assigned", KEY)
    assert found.info["cost"] == {"seconds": 6.0, "forward_equivalents": 30.0, "peak_memory_mib": 100.0}
    assert found.info["curves"]["loss/2"] == [(0, 2.0), (2, 1.0)]
    assert found.info["models"] == ["toy/net"]
    assert len(found.info["batches"]) == 3


def test_a_smaller_set_reads_fewer_batches(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    fill(store, 1)
    assert len(store.read(KEY, 8, "assigned").images) == 8
    with pytest.raises(StoreError, match="not stored"):
        store.read(KEY, 9, "assigned")


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 24), st.integers(1, 24))
def test_the_digest_is_of_the_prefix(tmp_path_factory: pytest.TempPathFactory, one: int, other: int) -> None:
    store = ArtifactStore(tmp_path_factory.getbasetemp() / "prefixes")
    fill(store)
    first, second = store.read(KEY, one, "assigned"), store.read(KEY, other, "assigned")
    assert (first.digest == second.digest) == (one == other)


def test_the_digest_does_not_see_how_a_set_was_cut(tmp_path: Path) -> None:
    one, other = ArtifactStore(tmp_path / "one"), ArtifactStore(tmp_path / "other")
    fill(one, 2)
    both = [make_batch(i) for i in range(2)]
    labels = torch.cat([batch.labels for batch in both if batch.labels is not None])
    other.write_batch(KEY, 0, ImageBatch(torch.cat([batch.images for batch in both]), labels), META)
    assert one.read(KEY, 16, "assigned").digest == other.read(KEY, 16, "assigned").digest


def test_labels_count_in_the_digest(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    batch = make_batch(0)
    assert batch.labels is not None
    store.write_batch("a" * 16, 0, batch, META)
    store.write_batch("b" * 16, 0, ImageBatch(batch.images, (batch.labels + 1) % 10), META)
    store.write_batch("c" * 16, 0, ImageBatch(batch.images, None, torch.full((8, 10), 0.1)), META)
    assert len({store.read(key * 16, 8, "assigned").digest for key in "abc"}) == 3


def test_metadata_reads_alone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    fill(store, 1)
    found = store.meta(KEY, 0)
    assert (found.source, found.version, found.models, dict(found.info)) == ("kw", 1, ("toy/net",), {"clipped": 0.1})
    with pytest.raises(StoreError):
        store.meta(KEY, 5)


@pytest.mark.parametrize("kind", ["flip", "cut", "empty", "foreign", "header"])
def test_damage_is_found_reported_and_mended(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    store = ArtifactStore(tmp_path)
    fill(store)
    path = next(tmp_path.glob(f"artifacts/*/{KEY}/00001.safetensors"))
    content = path.read_bytes()
    if kind == "flip":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif kind == "foreign":
        path.write_bytes(path.with_name("00000.safetensors").read_bytes()[:-4] + b"abcd")
    elif kind == "header":
        path.write_bytes(content.replace(b"clipped", b"clapped"))
    else:
        path.write_bytes(content[: len(content) // 2] if kind == "cut" else b"")
    with pytest.raises(DamagedArtifact) as caught:
        store.read(KEY, 24, "assigned")
    assert "damaged" in str(caught.value)
    assert (caught.value.key, caught.value.part) == (KEY, "00001")
    assert not store.set_aside(KEY, 0)  # nothing is wrong with it
    if kind == "empty":  # such as a full disk leaves; there is nothing to keep
        assert not store.set_aside(KEY, 1)
    else:
        assert store.missing(KEY, 4) == [3]  # a list by name
        assert store.set_aside(KEY, 1)
        assert "made again" in caplog.text
        assert path.with_name(f"{path.name}.damaged").read_bytes() != content
    assert store.missing(KEY, 4) == [1, 3]
    store.write_batch(KEY, 1, make_batch(1), META)
    assert store.missing(KEY, 3) == []
    assert torch.equal(store.read(KEY, 16, "assigned").images[8:], make_batch(1).images)


def test_what_another_process_mended_meanwhile_is_not_set_aside(tmp_path: Path) -> None:
    store, other = ArtifactStore(tmp_path), ArtifactStore(tmp_path)
    fill(store, 1)
    path = next(tmp_path.glob(f"artifacts/*/{KEY}/00000.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    for one in (store, other):
        with pytest.raises(DamagedArtifact):
            one.read(KEY, 8, "assigned")
    assert other.set_aside(KEY, 0)
    fill(other, 1)
    assert not store.set_aside(KEY, 0)
    assert torch.equal(store.read(KEY, 8, "assigned").images, make_batch(0).images)


def test_no_file_is_opened_to_list_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(tmp_path)
    fill(store)
    with monkeypatch.context() as patch:
        patch.setattr("io.open", lambda *_, **__: pytest.fail("a file was opened"))
        patch.setattr("builtins.open", lambda *_, **__: pytest.fail("a file was opened"))
        patch.setattr("os.open", lambda *_, **__: pytest.fail("a file was opened"))
        found = store.missing(KEY, 4)
    assert found == [3]


def test_batches_stored_before_are_valid(tmp_path: Path) -> None:
    """Layout, header and digest of the first version of the store, written here by hand."""
    images = torch.arange(2 * 1 * 4 * 4, dtype=torch.float32).view(2, 1, 4, 4)
    digest = "4200615e7a16ba2d4fff401d99e496479bc22734bd379937f54664ac20bb43ed"
    meta = json.dumps(
        {"source": "kw", "version": 1, "models": ["n"], "info": {}, "curves": {}, "cost": {}, "provenance": {}}
    )
    header = {"digest": digest, "meta": meta, "meta_digest": hashlib.sha256(meta.encode()).hexdigest()}
    path = tmp_path / "artifacts" / KEY[:2] / KEY / "00000.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(save({"images": images, "labels": torch.tensor([1, 0])}, header))
    store = ArtifactStore(tmp_path)
    assert store.has(KEY, 0)
    found = store.read(KEY, 2, "assigned")
    assert torch.equal(found.images, images)
    assert found.digest == digest
    assert found.info["models"] == ["n"]


def test_the_first_writer_wins(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    first = store.write_batch(KEY, 0, make_batch(0), META)
    assert store.write_batch(KEY, 0, make_batch(7), META) == first
    assert torch.equal(store.read(KEY, 8, "assigned").images, make_batch(0).images)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (ImageBatch(torch.full((2, 1, 4, 4), float("nan"))), "not finite"),
        (ImageBatch(torch.zeros(2, 4, 4)), "no image batch"),
        (ImageBatch(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)), "no image batch"),
        (ImageBatch(torch.zeros(2, 1, 4, 4), torch.zeros(3, dtype=torch.int64)), "differ in number"),
    ],
)
def test_what_is_no_batch(tmp_path: Path, batch: ImageBatch, words: str) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(StoreError, match=words):
        store.write_batch(KEY, 0, batch, META)
    assert not store.has(KEY, 0)


def test_metadata_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no JSON"):
        ArtifactStore(tmp_path).write_batch(KEY, 0, make_batch(0), ArtifactMeta("kw", 1, info={"x": object()}))


def test_batches_with_and_without_labels_do_not_mix(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.write_batch(KEY, 0, make_batch(0), META)
    store.write_batch(KEY, 1, make_batch(1, labels=False), META)
    with pytest.raises(StoreError, match="differ in their labels"):
        store.read(KEY, 16, "assigned")


@pytest.mark.parametrize("key", ["../../etc", "", "ABCDEF0123456789", "0123/5678"])
def test_keys_are_hashes(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError):
        ArtifactStore(tmp_path).has(key, 0)


def test_a_lock_shuts_others_out_and_lets_its_holder_write(tmp_path: Path) -> None:
    store, other = ArtifactStore(tmp_path), ArtifactStore(tmp_path)
    with store.lock(KEY, 0):
        with pytest.raises(StoreError, match="another process"), other.lock(KEY, 0, timeout=0):
            pass
        store.write_batch(KEY, 0, make_batch(0), META)
        with other.lock(KEY, 1, timeout=0):
            pass
    with other.lock(KEY, 0, timeout=0):
        assert other.has(KEY, 0)


def write_many(root: Path, index: int) -> None:
    """A writer process of the test below: the same batches as everyone else."""
    store = ArtifactStore(root)
    for step in range(12):
        store.write_batch(KEY, (step + index) % 6, make_batch((step + index) % 6), META)


def test_concurrent_writers_leave_whole_batches(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(tmp_path, index)) for index in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    store = ArtifactStore(tmp_path)
    assert store.missing(KEY, 6) == []
    assert torch.equal(store.read(KEY, 48, "assigned").images, torch.cat([make_batch(i).images for i in range(6)]))
    assert store.sweep() == 0


KILLED = """
    import os, sys, time
    import torch
    from bench.interfaces import ImageBatch
    from bench.store.artifacts import ArtifactStore
    from bench.store.meta import ArtifactMeta

    def stuck(handle):
        # The bytes are written and the rename is still to come: stop here until killed.
        print("writing", flush=True)
        time.sleep(60)

    os.fsync = stuck
    batch = ImageBatch(torch.zeros(64, 1, 32, 32))
    ArtifactStore(sys.argv[1]).write_batch("0123456789abcdef", 0, batch, ArtifactMeta("kw", 1))
"""


def test_a_killed_writer_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    writer = subprocess.Popen([sys.executable, "-c", dedent(KILLED), str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    left = list(tmp_path.glob("artifacts/*/*/.*.tmp-*"))
    assert len(left) == 1
    assert store.sweep() == 0  # its writer is at work
    writer.send_signal(signal.SIGKILL)
    writer.wait(10)
    assert not store.has(KEY, 0)
    assert store.missing(KEY, 1) == [0]
    assert store.sweep() == 1
    assert not left[0].exists()
    store.write_batch(KEY, 0, make_batch(0), META)  # the lock died with its holder
    assert store.missing(KEY, 1) == []
