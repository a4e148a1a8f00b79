"""The row option ``domain``: unrelated images from a data set that the suite names (docs/methods/sources.md#domain)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data.datasets import get_dataset
from bench.data.folders import open_folder
from bench.data.places import domain_root
from bench.errors import SuiteError
from bench.run import session
from bench.run.apart import keeper
from bench.run.batch import make_batch
from bench.run.reports import cell_record
from bench.run.tasks import Settings
from bench.run.worker import Bench
from bench.spec import catalogue
from bench.spec.graph import BatchJob
from bench.spec.plan import Plan
from tests import pick

CLASSES = get_dataset("cifar10_jpeg").spec.class_names
SOURCE = pick.first("sources", access="T3", label_kind="foreign")
DOMAIN = "cifar10_jpeg"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small class folder of natural images' form: three colours of each class, of 20 pixels."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    open_folder.cache_clear()
    root = tmp_path / "natural"
    for k, name in enumerate(CLASSES):
        (root / "train" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (20, 20), (25 * k, 80 * i, 90)).save(root / "train" / name / f"{i}.png")
    return root


def planned(tmp_path: Path, source: Any, root: Path | None, dataset: str = "fashion_mnist") -> Plan:
    path = tmp_path / "own.yaml"
    path.write_text(f"""
suite: own
version: 1
dataset: {dataset}
grid: {{source: [{source}], target: [resnet18_w10], compressor: [{pick.ROUND}], bits: [W8A8]}}
images: 12
seeds: [0]
""")
    return session.plan_of(session.Options(str(path), store=tmp_path / "store", data_root=root))


def row(**options: str) -> str:
    given = ", ".join(f"{key}: {value}" for key, value in {"batch": "12", **options}.items())
    return f"{{{SOURCE}: {{{given}}}}}"


def test_images_are_the_domains_grey_and_of_the_networks_size(folder: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path, row(domain=DOMAIN), folder)
    (job,) = plan.synths
    assert job.source.domain == DOMAIN
    assert job.source.label == f"{SOURCE}(batch=12, domain={DOMAIN})"
    bench = Bench(Settings(str(tmp_path / "store"), data_root=str(folder)))
    make_batch(bench, job, 0, lambda *_: None)
    stored = bench.store.read(job.synth_id, 12, job.source.label_kind)
    data = get_dataset("fashion_mnist")
    assert stored.images.shape == (12, *data.spec.shape)
    assert stored.labels is not None
    pixels = data.denormalise(stored.images)
    assert torch.allclose(pixels, pixels[:, :1, :1, :1].expand_as(pixels), atol=1e-5)
    greys = {round((25 * k + 80 * i + 90) / 3 / 255, 3): k for k in range(10) for i in range(3)}
    found = [greys[min(greys, key=lambda grey: abs(grey - float(image[0, 0, 0])))] for image in pixels]
    assert found == stored.labels.tolist()
    (read,) = stored.info["batches"][0]["audit"]
    assert (read["read"], read["count"], read["denied"]) == (DOMAIN, 12, False)
    # what an installed method's process may not open
    hidden = keeper._order(bench, BatchJob(job, 0), "fashion_mnist").hidden
    assert folder / "train" in hidden


def test_the_row_holds_name_and_content_not_the_place(folder: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path, row(domain=DOMAIN), folder)
    cell = plan.cells[0]
    record = cell_record(cell, plan.synths[0], "own", 1, "ok")
    digest = get_dataset(DOMAIN, folder).train_digest()
    assert record.source_params == {"batch": 12, "domain": DOMAIN, "domain_digest": digest}
    assert record.access == "T3"
    assert record.source_changes == {"batch": 12, "domain": DOMAIN}
    moved = folder.rename(tmp_path / "elsewhere")
    open_folder.cache_clear()
    again = planned(tmp_path, row(domain=DOMAIN), moved)
    assert (again.cells[0].cell_id, again.cells[0].row_id) == (cell.cell_id, cell.row_id)
    plain = planned(tmp_path, row(), moved)
    assert plain.cells[0].cell_id != cell.cell_id
    assert plain.cells[0].row_id != cell.row_id
    Image.new("RGB", (20, 20), "white").save(moved / "train" / "cat" / "1.png")
    open_folder.cache_clear()
    catalogue._train_digest.cache_clear()
    changed = planned(tmp_path, row(domain=DOMAIN), moved)
    assert changed.cells[0].row_id != cell.row_id


def test_where_it_is_looked_for(folder: Path, tmp_path: Path) -> None:
    assert domain_root(DOMAIN, "fashion_mnist", None) is None
    assert domain_root(DOMAIN, "fashion_mnist+held_out", folder) == folder
    assert domain_root(DOMAIN, "imagenet@64", folder) is None
    below = folder.rename(tmp_path / DOMAIN)
    assert domain_root(DOMAIN, "imagenet@64", tmp_path) == domain_root(DOMAIN, "fashion_mnist", tmp_path) == below
    (tmp_path / "cache").mkdir()
    below.rename(tmp_path / "cache" / DOMAIN)
    open_folder.cache_clear()
    assert planned(tmp_path, row(domain=DOMAIN), None).synths[0].source.domain_digest


def test_a_search_may_look_at_it(folder: Path, tmp_path: Path) -> None:
    search = pick.name("policies", control=False, written=False)
    path = tmp_path / "own.yaml"
    path.write_text(f"""
suite: own
version: 1
dataset: fashion_mnist
grid:
  source: [{pick.LOWER}]
  target: [resnet18_w10]
  compressor: [{pick.ROUND}]
  policy: [{{{search}: {{on: {row(domain=DOMAIN)}, images: 10}}}}]
  bits: [W4A4]
images: 12
seeds: [0]
""")
    plan = session.plan_of(session.Options(str(path), store=tmp_path / "store", data_root=folder))
    assert [job.source.domain for job in plan.synths if job.source.method == SOURCE] == [DOMAIN]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (f"{{{pick.UPPER}: {{domain: {DOMAIN}}}}}", "looks at no images of another domain"),
        (row(domain="fashion_mnist"), "no other domain"),
        (row(domain="fashion_clips@32x1"), "no other domain"),
        (row(domain="cifar11"), "unknown data set"),
        (row(domain="cifar100"), "wrong number of class folders"),
    ],
)
def test_what_cannot_be_a_domain(folder: Path, tmp_path: Path, source: str, what: str) -> None:
    with pytest.raises(SuiteError, match=what) as caught:
        planned(tmp_path, source, folder)
    assert "own.yaml:5: grid.source[0]." in str(caught.value)


def test_a_small_share_of_the_training_images_is_a_prefix_of_real_ones() -> None:
    """SEAM's Table 3 has a 4 % subset of ImageNet: here the upper control with as many images."""
    from bench.data.access import DataAccess

    access = DataAccess(get_dataset("fashion_mnist"), "T5")
    _, labels, picks = access.train_images(400, torch.Generator().manual_seed(5))  # of 10,000
    assert np.bincount(labels.numpy()).tolist() == [40] * 10
    assert access.train_images(512, torch.Generator().manual_seed(5))[2][:400] == picks
