"""Objects under keys: one maker at a time, also when one is killed; last use; readers that write nothing."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from bench.errors import StoreError
from bench.interfaces import BitPolicy
from bench.store import objects
from bench.store.artifacts import ArtifactStore
from bench.store.meta import ArtifactMeta
from bench.store.objects import DamagedArtifact, LostArtifact, ObjectReader, ObjectStore, damaged
from bench.store.policies import PolicyStore, StoredPolicy
from tests.store.conftest import KEY, make_batch

NAME = "policy.json"


@pytest.mark.parametrize("key", ["../../etc", "", "ABCDEF0123456789", "0123/5678", "0123456", "a" * 65, f"{KEY}\n"])
def test_keys_are_hashes(tmp_path: Path, key: str) -> None:
    store = ObjectStore(tmp_path)
    for attempt in (store.has, store.read, store.lock, store.making, lambda k, n: store.write(k, n, b"x")):
        with pytest.raises(ValueError, match="no key"):
            with_block(attempt(key, NAME))
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    "name", ["", "policy", "../x.json", ".x.json", "x.pkl", "X.json", "-0001.safetensors", "a.b.json"]
)
def test_names_are_parts_with_an_ending(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        ObjectStore(tmp_path).write(KEY, name, b"x")


def with_block(found: object) -> None:
    """Enter what a generator would check only then."""
    if hasattr(found, "__enter__"):
        with found:
            pass


def test_an_object_is_written_once_and_read_back(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    with pytest.raises(LostArtifact, match="not stored"):
        store.read(KEY, NAME)
    assert store.write(KEY, NAME, b"one")
    assert not store.write(KEY, NAME, b"other")
    assert store.read(KEY, NAME) == b"one"
    assert ObjectStore(tmp_path).read(KEY, NAME) == b"one"
    assert store.path(KEY, NAME) == tmp_path / "artifacts" / KEY[:2] / KEY / NAME


def test_an_empty_file_is_no_object(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    store.write(KEY, NAME, b"one")
    store.path(KEY, NAME).write_bytes(b"")
    assert not store.has(KEY, NAME)
    with store.making(KEY, NAME) as wanted:
        assert wanted
        assert store.write(KEY, NAME, b"two")
    assert store.read(KEY, NAME) == b"two"


def test_the_last_use_moves_with_reading_and_writing(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    assert store.last_use(KEY) is None
    folder = tmp_path / "artifacts" / KEY[:2] / KEY
    for use in (lambda: store.write(KEY, NAME, b"x"), lambda: store.read(KEY, NAME), lambda: store.touch(KEY)):
        if folder.exists():
            os.utime(folder, (1.0, 1.0))
            assert store.last_use(KEY) == 1.0
        earlier, later = tmp_path / "earlier", tmp_path / "later"
        earlier.touch()
        use()
        later.touch()
        used = store.last_use(KEY)
        assert used is not None
        assert earlier.stat().st_mtime <= used <= later.stat().st_mtime  # of one clock: the file system's
    os.utime(folder, (1.0, 1.0))
    assert ObjectReader(tmp_path).read(KEY, NAME) == b"x"
    assert store.has(KEY, NAME)
    assert store.last_use(KEY) == 1.0  # a reader leaves no trace, and a look is no use
    store.touch("f" * 16)  # nothing is there: no error, nothing made
    assert store.last_use("f" * 16) is None


def test_a_reader_makes_nothing(tmp_path: Path) -> None:
    reader = ObjectReader(tmp_path / "none")
    assert not reader.has(KEY, NAME)
    with pytest.raises(LostArtifact):
        reader.read(KEY, NAME)
    assert list(tmp_path.iterdir()) == []


HOLDER = """
    import sys
    from bench.store.objects import ObjectStore

    store, key, name = ObjectStore(sys.argv[1]), sys.argv[2], sys.argv[3]
    with store.making(key, name) as wanted:
        print("making" if wanted else "there", flush=True)
        sys.stdin.readline()
        store.write(key, name, b"made")
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that makes the object: it writes it when it is told to."""
    command = [sys.executable, "-c", dedent(HOLDER), str(tmp_path), KEY, NAME]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "making\n"
        yield process
        process.kill()


def test_who_waits_says_so_and_finds_the_object_made(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "WAIT", 0.1)
    store, said = ObjectStore(tmp_path), []

    def waiting() -> None:
        assert not store.has(KEY, NAME)
        said.append("waiting")
        if len(said) == 2:
            assert holder.stdin is not None
            holder.stdin.write("go on\n")
            holder.stdin.flush()

    with store.making(KEY, NAME, waiting) as wanted:
        assert not wanted
    assert len(said) >= 2
    assert store.read(KEY, NAME) == b"made"


def test_the_lock_of_a_killed_maker_is_free(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "WAIT", 0.1)
    store = ObjectStore(tmp_path)
    with pytest.raises(StoreError, match="another process"), store.lock(KEY, NAME, timeout=0):
        pass
    with store.making(KEY, NAME, lambda: holder.send_signal(signal.SIGKILL)) as wanted:
        assert wanted
        assert holder.wait(30) == -signal.SIGKILL
        assert store.write(KEY, NAME, b"mine")
    assert store.read(KEY, NAME) == b"mine"


def test_a_wait_can_be_given_up(tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "WAIT", 0.1)

    def gone() -> None:
        raise BrokenPipeError("nobody is listening any more")

    with pytest.raises(BrokenPipeError), ObjectStore(tmp_path).making(KEY, NAME, gone):
        pass
    assert holder.poll() is None


def test_a_failed_maker_leaves_nothing_and_the_next_one_makes_it(tmp_path: Path) -> None:
    store, other = ObjectStore(tmp_path), ObjectStore(tmp_path)
    with pytest.raises(RuntimeError), store.making(KEY, NAME):
        raise RuntimeError("diverged")
    with other.making(KEY, NAME) as wanted:
        assert wanted


def test_damage_is_checked_again_under_the_lock(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)

    def broken() -> None:
        raise DamagedArtifact("is damaged", where=str(store.path(KEY, NAME)))

    assert not store.set_aside(KEY, NAME, broken)  # nothing is there
    store.write(KEY, NAME, b"x")
    assert not store.set_aside(KEY, NAME, lambda: None)
    assert store.has(KEY, NAME)
    assert store.set_aside(KEY, NAME, broken)
    assert not store.has(KEY, NAME)
    assert store.path(KEY, NAME).with_name(f"{NAME}.damaged").read_bytes() == b"x"


def test_an_error_names_its_object_also_from_another_process(tmp_path: Path) -> None:
    path = ObjectReader(tmp_path).path(KEY, "00012.safetensors")
    error = pickle.loads(pickle.dumps(damaged(path, "cut")))
    assert type(error) is DamagedArtifact
    assert (error.key, error.part) == (KEY, "00012")
    assert "cut" in str(error)


READER = """
    import sys
    from pathlib import Path
    from bench.board.index.imagesets import is_stored, read_images
    from bench.store.meta import batch_name, header_meta, read_header
    from bench.store.objects import ObjectReader
    from bench.store.policies import read_policy

    store, key = Path(sys.argv[1]), sys.argv[2]
    assert is_stored(store, key)
    path = ObjectReader(store).path(key, batch_name(0))
    print(header_meta(read_header(path), path).source, read_images(store, key, 3).images.sum())
    print(read_policy(ObjectReader(store), "f" * 16).policy.to_json())
    assert "torch" not in sys.modules
"""


def test_what_is_stored_is_read_without_torch(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    batch = make_batch(0)
    store.write_batch(KEY, 0, batch, ArtifactMeta("kw", 1))
    found = StoredPolicy(BitPolicy.of({"conv": (4, 8)}), ArtifactMeta("search", 1))
    PolicyStore(store.objects).write("f" * 16, found)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    command = [sys.executable, "-c", dedent(READER), str(tmp_path), KEY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (source, total), policy = done.stdout.splitlines()[0].split(), done.stdout.splitlines()[1]
    assert source == "kw"
    assert float(total) == pytest.approx(float(batch.images[:3].sum()), abs=1e-3)
    assert policy == "{'conv': [4, 8]}"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
