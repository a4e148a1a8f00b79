"""SynQ's low-pass filter: against a dense transform, its limits, what it keeps, and in a suite over another source."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.errors import BenchError, SuiteError
from bench.interfaces import ImageBatch
from bench.run.batch import make_batch
from bench.run.tasks import Settings
from bench.run.worker import Bench
from bench.spec.graph import BatchJob
from bench.spec.plan import Plan, make_plan
from bench.spec.suite import load_suite
from methods.sources.synq import METHOD, low_pass
from tests import pick
from tests.sources.toy import GREY, SIZE, context, request


def images(height: int = SIZE, width: int = SIZE, channels: int = 1) -> Tensor:
    return torch.randn(3, channels, height, width, generator=torch.Generator().manual_seed(4)) + 0.7


def shifted(side: int) -> Tensor:
    """The dense matrix of the discrete Fourier transform whose zero frequency stands in the middle, complex [n,n]."""
    frequencies = torch.arange(side, dtype=torch.float64) - side // 2
    angles = -2 * math.pi * torch.outer(frequencies, torch.arange(side, dtype=torch.float64)) / side
    return torch.complex(angles.cos(), angles.sin())


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 9), (8, 13)])
@pytest.mark.parametrize("cutoff", [1.5, 6.0])
def test_it_is_the_dense_transform_s(height: int, width: int, cutoff: float) -> None:
    x = images(height, width, 2)
    rows, columns = shifted(height), shifted(width)
    spectrum = rows @ x.to(torch.complex128) @ columns.T
    for row in range(height):
        for column in range(width):
            square = (row - height // 2) ** 2 + (column - width // 2) ** 2
            spectrum[:, :, row, column] *= math.exp(-square / (2 * cutoff**2))
    back = rows.conj().T @ spectrum @ columns.conj() / (height * width)
    assert float(back.imag.abs().max()) < 1e-9
    torch.testing.assert_close(low_pass(x, cutoff).double(), back.real, rtol=0, atol=1e-5)


def test_a_cutoff_without_end_changes_nothing_and_none_leaves_the_mean() -> None:
    x = images()
    torch.testing.assert_close(low_pass(x, 1e6), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(low_pass(x, 1e-3), x.mean((2, 3), keepdim=True).expand_as(x), rtol=0, atol=1e-5)


def test_mean_colour_stays_and_high_frequencies_go() -> None:
    x = images(channels=3)
    lost = []
    for cutoff in (16.0, 8.0, 4.0, 2.0):
        y = low_pass(x, cutoff)
        torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3)), rtol=0, atol=1e-6)
        lost.append(float(y.var()))
    assert lost == sorted(lost, reverse=True)
    wave = torch.cos(2 * math.pi * 3 * torch.arange(SIZE) / SIZE).expand(1, 1, SIZE, SIZE)
    torch.testing.assert_close(low_pass(wave, 4.0), wave * math.exp(-9 / 32), rtol=0, atol=1e-5)


def test_the_given_batch_s_labels_cost_and_record_stay() -> None:
    labels = torch.arange(3) % GREY.classes
    given = ImageBatch(images(), labels, None, 12.5, {"models": ["a"], "lr": 0.1})
    made = METHOD.synthesize_batch(replace(request(METHOD, (), cutoff=3.0), given=given), context())
    assert made.labels is labels
    assert made.forward_equivalents == 12.5
    assert (made.info["of"], made.info["models"], made.info["cutoff"]) == (given.info, ["a"], 3.0)
    assert "lr" not in made.info
    assert 0 < made.info["variance_taken"] < 1
    half = replace(request(METHOD, (), cutoff=0.375, relative=True), given=given)
    assert torch.equal(METHOD.synthesize_batch(half, context()).images, made.images)
    with pytest.raises(BenchError, match="no images to filter"):
        METHOD.synthesize_batch(request(METHOD, ()), context())


NOISE, INVERTS = (
    pick.first("sources", control="lower"),
    pick.first("sources", params=("batch", "iterations"), access="T2a"),
)


def suite(tmp_path: Path, *rows: Any) -> Path:
    """A suite of these rows on one small network."""
    place = tmp_path / "filtered.yaml"
    grid = {"source": rows, "target": ["mobilenetv2_w035_s1"], "compressor": [pick.ROUND], "bits": ["W4A4"]}
    head = {"suite": "filtered", "version": 1, "title": "filtered", "dataset": "fashion_mnist"}
    place.write_text(json.dumps({**head, "grid": grid, "images": 64, "seeds": [0]}), encoding="utf-8")
    return place


def planned(tmp_path: Path, *rows: Any) -> Plan:
    pick.need_small_runs()
    return make_plan(load_suite(str(suite(tmp_path, *rows))))


def test_a_row_stands_on_the_other_s_image_set(tmp_path: Path) -> None:
    other: dict[str, Any] = {INVERTS: {"batch": 32, "iterations": 3}}
    plan = planned(tmp_path, other, {"synq": {"of": other, "cutoff": 4.0}})
    under, job = plan.synths
    assert (job.of, under.of) == (under, None)
    assert (job.source.access, job.source.batch_size, job.models) == ("T2a", 32, under.models)
    assert job.source.label_kind == under.source.label_kind
    assert job.source.label.startswith(f"synq(of={INVERTS}, {INVERTS}.")
    assert job.source.label.endswith("cutoff=4.0)")
    graph = [each for each in plan.graph() if isinstance(each, BatchJob)]
    assert [each.needs for each in graph[:2]] == [frozenset(), frozenset()]
    assert [each.needs for each in graph[2:]] == [{each.key} for each in graph[:2]]
    # whatever makes the other set another one makes this one another one; the other row itself need not be there
    alone = planned(tmp_path, {"synq": {"of": other, "cutoff": 4.0}})
    changed = planned(tmp_path, {"synq": {"of": {INVERTS: {"batch": 32, "iterations": 4}}, "cutoff": 4.0}})
    assert [each.synth_id for each in alone.synths] == [under.synth_id, job.synth_id]
    assert not {each.synth_id for each in changed.synths} & {under.synth_id, job.synth_id}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("synq", "synq changes another source's images: name it"),
        ({NOISE: {"of": NOISE}}, f"{NOISE} changes no other source's images"),
        ({"synq": {"of": "nois"}}, "unknown source"),
        ({"synq": {"of": {NOISE: {"size": 3}}}}, r"synq.of.NAME.size".replace("NAME", NOISE)),
        ({"synq": {"of": INVERTS, "model": "each_target"}}, f"looks at the images of {INVERTS} alone"),
        ({"synq": {"of": NOISE, "cutoff": 0.0}}, "cutoff"),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(row: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=said):
        planned(tmp_path, row)


def test_a_stored_batch_is_filtered_and_a_lost_one_made_again(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"synq": {"of": NOISE, "cutoff": 4.0}})
    under, job = plan.synths
    bench = Bench(Settings(store=str(tmp_path / "store")))
    make_batch(bench, job, 0, lambda *given: None)
    raw, meta = bench.store.batch(under.synth_id, 0)
    made, own = bench.store.batch(job.synth_id, 0)
    assert torch.equal(made.images, low_pass(raw.images, 4.0))
    assert own.cost["forward_equivalents"] == meta.cost["forward_equivalents"]
    assert (own.cost["seconds"] or 0) > (meta.cost["seconds"] or 0)
    assert own.source == "synq"
