"""What lies between the engine and a method that runs apart: messages, reads from afar, files that stay shut."""

from __future__ import annotations

import pickle
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from bench.data.access import DataAccess
from bench.data.datasets import get_dataset
from bench.data.places import files_of
from bench.errors import AccessDenied, BenchError, DataError, StoreError
from bench.interfaces import DatasetSpec, MethodParams, Tier
from bench.run.apart.exam import QUESTIONS, Exam, sat
from bench.run.apart.handle import Desk, RemoteData
from bench.run.apart.keeper import Answerer
from bench.run.apart.wire import Message, receive, send
from bench.spec.resolved import ResolvedCompressor
from tests.contracts.kit import toy_data


def access(tier: Tier) -> DataAccess:
    return DataAccess(get_dataset("fashion_mnist"), tier, get_dataset("digits"))


def remote(desk: Desk) -> RemoteData:
    """A handle whose questions and answers cross a real pipe."""
    there, here = Pipe()

    def across(message: Message) -> Message:
        send(there, message)
        return receive(here)

    return RemoteData(lambda question: across(desk.answer(across(question))))


def reads(data: DataAccess, seed: int = 3) -> list[object]:
    """Everything there is to read of the embedded images, and the generator after it."""
    generator = torch.Generator().manual_seed(seed)
    images, labels, picks = data.train_images(20, generator)
    free, drawn = data.unlabelled_images(7, generator)
    others, foreign = data.unrelated_labelled(3, generator)
    drawn_once = (free, torch.tensor(drawn), data.unrelated_images(3, generator))
    last = (*data.train_images(8, generator, 9_995)[:2], *data.unrelated_labelled(8, generator, 1_790))
    last = (*last, data.unlabelled_images(8, generator, 9_995)[0], data.unrelated_images(8, generator, 1_790))
    assert [len(part) for part in last] == [5, 5, 7, 7, 5, 7]
    return [images, labels, torch.tensor(picks), *drawn_once, others, foreign, *last, generator.get_state()]


def test_reads_from_afar_are_the_same_and_leave_the_same_audit() -> None:
    near, far = access("T5"), access("T5")
    data = remote(Desk(far))
    for one, other in zip(reads(near), reads(data), strict=True):
        assert torch.equal(one, other)  # type: ignore[arg-type]
    assert near.audit == far.audit != ()
    assert data.audit == ()


def test_a_pass_from_afar_comes_batch_by_batch() -> None:
    toy = toy_data(DatasetSpec("toy", 4, (1, 8, 8), (0.5,), (0.25,)))
    near, far = DataAccess(toy, "T6"), DataAccess(toy, "T6")
    here, there = (data.training_batches(100, torch.Generator().manual_seed(1)) for data in (near, remote(Desk(far))))
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    images, labels = remote(Desk(far)).training_set()
    assert (len(images), len(labels)) == (256, 256)
    assert [entry["count"] for entry in far.audit] == [256, 256]


def test_errors_cross_with_their_facts() -> None:
    far = access("T2b")
    with pytest.raises(AccessDenied, match="a method of tier T2b may not read labelled") as raised:
        remote(Desk(far)).train_images(4, torch.Generator())
    assert raised.value.expected == "tier T5 or beyond"
    assert [entry["denied"] for entry in far.audit] == [True]
    with pytest.raises(DataError, match="1 to 10000"):
        remote(Desk(access("T4"))).unlabelled_images(10_001, torch.Generator())


def test_test_images_cross_without_their_labels_and_end_all_reading() -> None:
    dataset = get_dataset("fashion_mnist")
    kept = [labels for _, labels in dataset.test_batches(30)]
    assert torch.equal(torch.cat(kept), dataset.test_labels(30))
    exam = Exam(lambda: dataset.test_batches(30, 20))
    answerer, crossed = Answerer(Desk(access("T4")), exam), []
    there, here = Pipe()

    def across(question: Message) -> Message:
        send(there, answerer.answer(question))
        crossed.append(receive(here))
        return crossed[-1]

    data = RemoteData(across)
    assert len(data.unlabelled_images(3, torch.Generator())[0]) == 3
    for _ in range(2):  # a second pass begins anew
        found = list(sat(across))
        assert [len(images) for images, _ in found] == [20, 10]
        for (images, blank), (expected, _) in zip(found, dataset.test_batches(30, 20), strict=True):
            assert torch.equal(images, expected)
            assert blank.eq(-1).all()
    assert {name for message in crossed if message.kind in QUESTIONS for name in message.tensors} == {"images"}
    with pytest.raises(KeyError):
        data.unlabelled_images(3, torch.Generator())
    with pytest.raises(KeyError):
        Answerer(Desk(access("T4")), None).answer(Message(QUESTIONS[0]))  # a source, a search


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    "raw", [pickle.dumps(Bomb()), b"[]", b"{}", b'{"kind": 1, "body": 2, "tensors": []}', b"[" * 50_000]
)
def test_what_is_no_message_is_an_error_and_is_never_unpickled(raw: bytes) -> None:
    there, here = Pipe()
    there.send_bytes(raw)
    with pytest.raises(BenchError, match="sends what is no message"):
        receive(here)


def test_an_answer_that_is_no_json_says_so() -> None:
    there, _ = Pipe()
    with pytest.raises(StoreError, match="no JSON"):
        send(there, Message("done", {"info": object()}))


class Foreign(MethodParams):
    def __reduce__(self) -> tuple[object, ...]:  # type: ignore[override]
        return (pytest.fail, ("unpickled",))


def test_parameters_of_installed_methods_do_not_cross() -> None:
    row = ResolvedCompressor("x", "x", 1, Foreign(), {"a": 1}, frozenset(), own=False)
    there = pickle.loads(pickle.dumps(row))
    assert type(there.params) is MethodParams
    assert there.params_json == {"a": 1}


DOORS = """
    import os, sys
    from pathlib import Path
    from bench.errors import AccessDenied
    from bench.run.apart.doors import shut

    root = Path(sys.argv[1])
    told = []
    shut([root / "hidden", root / "secret.bin"], [root / "guarded"], told.append)

    def denied(what):
        try:
            what()
        except AccessDenied as error:
            return error.where == told[-1]
        raise AssertionError("it was allowed")

    def linked():
        os.symlink(root / "secret.bin", root / "link")

    os.chdir(root / "hidden")
    for what in (
        lambda: open("a.bin", "rb"),
        lambda: (root / "hidden" / "deep" / "b.bin").read_bytes(),
        lambda: os.open(root / "secret.bin", os.O_RDONLY),
        lambda: open(os.fsencode(root / "secret.bin")),
        lambda: open(root / "other" / "there", "rb"),
        lambda: os.link(root / "secret.bin", root / "copy"),
        lambda: os.rename(root / "secret.bin", root / "moved"),
        linked,
        lambda: (root / "guarded" / "c.bin").write_bytes(b""),
        lambda: (root / "guarded" / "new").touch(),
        lambda: os.open(root / "guarded" / "c.bin", os.O_RDWR),
        lambda: os.remove(root / "guarded" / "c.bin"),
        lambda: os.truncate(root / "guarded" / "c.bin", 0),
        lambda: os.rename(root / "other" / "d.bin", root / "guarded" / "c.bin"),
    ):
        assert denied(what)
    count = len(told)
    assert (root / "guarded" / "c.bin").read_bytes() == b"c"
    (root / "other" / "e.bin").write_bytes(b"e")
    (root / "hidden-not").write_bytes(b"f")  # a name that only begins alike
    assert len(told) == count
"""


def test_shut_files_stay_shut_whatever_name_they_are_called_by(tmp_path: Path) -> None:
    for place in ("hidden/a.bin", "hidden/deep/b.bin", "guarded/c.bin", "other/d.bin"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(Path(place).stem.encode())
    (tmp_path / "secret.bin").write_bytes(b"s")
    (tmp_path / "other" / "there").symlink_to(tmp_path / "secret.bin")
    found = subprocess.run(
        [sys.executable, "-c", dedent(DOORS), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "guarded" / "c.bin").read_bytes() == b"c"


def test_the_files_of_a_data_set_are_those_it_is_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    names = {path.name for path in files_of("fashion_mnist") if path.exists()}
    assert {f"fashion_mnist_{part}.xz" for part in ("test_images", "test_labels", "train_images")} <= names
    assert "digests.json" not in names
    assert tmp_path / "imagenet" / "val" in files_of("imagenet@256")
    assert tmp_path / "mine" / "test" in files_of(f"imagefolder:{tmp_path / 'mine'}@64")
    assert tmp_path / "there" / "train" in files_of("cifar10", tmp_path / "there")
    (digits,) = (path for path in files_of("digits") if path.exists())
    assert digits.suffix == ".gz"
