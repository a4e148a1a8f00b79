"""Images: stored batches are read and laid out right, measures are the records', the page says what is not measured."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save

from bench.board.claims.verdicts import suite_of
from bench.board.index.imagesets import is_stored, pixels, read_images, sheet
from bench.errors import StoreError
from bench.interfaces import ImageBatch
from bench.store.artifacts import ArtifactStore
from bench.store.meta import ArtifactMeta
from dashboard.figures.images import PAIR, class_grid, curve_figure, measure_dots
from dashboard.load import snapshot
from dashboard.text import significant
from tests.dashboard.fixtures_pages2 import AWKWARD, Pages, charts, check_awkward, made, measured, pages, text_of

__all__ = ["measured", "pages"]

KEY = "0123456789abcdef"


def test_what_the_artifact_store_wrote_is_read_without_torch(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)
    for index in range(2):
        labels = torch.tensor([index, 7])
        info = {"class_names": ["Bag", "Coat"]}
        meta = ArtifactMeta("kw", 1, info=info, curves={"loss": [(0, 1.5), (9, 0.5 + index)]})
        store.write_batch(KEY, index, ImageBatch(images + index, labels), meta)
    found = read_images(tmp_path, KEY, 3)
    assert found is not None
    assert np.array_equal(found.images, torch.cat([images, images + 1])[:3].numpy())
    assert found.labels is not None
    assert found.labels.tolist() == [0, 7, 1]
    assert found.curves == {"loss": [(0, 1.5), (9, 0.5)]}  # of the first batch
    assert [found.name_of(label) for label in (0, 1, 7)] == ["Bag", "Coat", "class 7"]
    assert is_stored(tmp_path, KEY)
    assert not is_stored(tmp_path, "f" * 16)
    assert not is_stored(tmp_path, "../../etc")
    assert not is_stored(None, KEY)


def test_reading_stays_in_the_store_and_names_damage(tmp_path: Path) -> None:
    assert read_images(None, KEY, 4) is None
    assert read_images(tmp_path, KEY, 4) is None
    with pytest.raises(ValueError, match="no key"):
        read_images(tmp_path, "../../etc", 4)
    folder = tmp_path / "artifacts" / "01" / KEY
    folder.mkdir(parents=True)
    (folder / "00000.safetensors").write_bytes(b"half")
    with pytest.raises(StoreError, match="damaged"):
        read_images(tmp_path, KEY, 4)
    (folder / "00000.safetensors").write_bytes(save({"images": np.zeros((2, 3), np.float32)}))
    with pytest.raises(StoreError, match="damaged"):
        read_images(tmp_path, KEY, 4)


def test_pixels_undo_the_normalisation() -> None:
    plain = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
    images = ((plain - 0.2) / 0.3).reshape(1, 1, 2, 2)
    assert pixels(images, [0.2], [0.3]).reshape(2, 2).tolist() == [[0, 64], [128, 255]]
    spread = pixels(np.linspace(-9, 9, 1000, dtype=np.float32).reshape(10, 1, 10, 10), None, None)
    assert (spread.min(), spread.max()) == (0, 255)


def test_sheet_has_a_row_per_class() -> None:
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(4, 2).repeat(4, 3)
    picture, classes = sheet(images, np.array([3, 1, 3, 3, 1]), columns=2)
    assert classes == [1, 3]
    assert picture.shape == (10, 10, 1)
    corners = [int(picture[r, c, 0]) for r in (0, 6) for c in (0, 6)]
    assert corners == [1, 4, 0, 2]  # the third of class 3 has no room
    assert picture[4, 0, 0] == 255
    plain, none = sheet(images, None, columns=3)
    assert (plain.shape, none) == ((10, 16, 1), [])
    assert [int(plain[6, c, 0]) for c in (0, 6, 12)] == [3, 4, 255]


def test_rows_of_the_grid_are_named_at_their_middle() -> None:
    figure = class_grid(np.zeros((20, 30, 1), np.uint8), ["Bag", "<b>Coat"])
    assert list(figure.layout.yaxis.tickvals) == [5, 15]
    assert list(figure.layout.yaxis.ticktext) == ["Bag", "&lt;b&gt;Coat"]
    longer = class_grid(np.zeros((20, 30, 1), np.uint8), ["Bag", "Ankle boot"])
    assert (
        longer.layout.margin.l
        > figure.layout.margin.l
        > class_grid(np.zeros((20, 30, 1), np.uint8), []).layout.margin.l
    )


def test_curves_of_both_sources() -> None:
    figure = curve_figure("loss", [("a", [(0, 100.0), (5, 1.0)]), ("b", [])])
    (trace,) = figure.data
    assert (list(trace.x), list(trace.y), trace.line.color) == ([0, 5], [100.0, 1.0], PAIR[0])
    assert figure.layout.yaxis.type == "log"
    assert curve_figure("top1", [("a", [(0, 1.0), (5, 100.0)])]).layout.yaxis.type is None
    (second,) = curve_figure("bn", [("a", ()), ("b", [(0, 2.0)])]).data
    assert second.line.color == PAIR[1]


def test_measure_dots_are_the_rows() -> None:
    names = ["a", "b", "c", "real"]
    values = pd.DataFrame(
        [(n, net, float(10 * i + j)) for i, n in enumerate(names) for j, net in enumerate(("x", "y"))],
        columns=["name", "network", "kid"],
    ).assign(kid_low=lambda t: t["kid"] - 1, kid_high=lambda t: t["kid"] + 2)
    figure = measure_dots(values, "kid", ["a", "b"], ["x", "y"], "real")
    drawn = {t.name: dict(zip(t.y, t.x, strict=True)) for t in figure.data}
    assert drawn == {
        "other sources": {"x": 20, "y": 21},
        "real": {"x": 30, "y": 31},
        "a": {"x": 0, "y": 1},
        "b": {"x": 10, "y": 11},
    }
    assert list(figure.data[-1].error_x.array) == [2, 2]
    assert list(figure.layout.yaxis.categoryarray) == ["y", "x"]


@pytest.mark.parametrize("name", AWKWARD)
def test_page_answers_awkward_stores(pages: Pages, name: str) -> None:
    check_awkward(pages, "images", name)


def test_page_says_what_is_not_measured(pages: Pages) -> None:
    pages.write([made(0.8)])
    infos = " ".join(e.value for e in pages.open("images").info)
    assert "no picture" in infos
    assert "Not recorded here" in infos
    assert "Not measured: no suite here measures these image sets" in infos


def test_page_draws_stored_images_by_class_and_their_curves(pages: Pages) -> None:
    one = made(0.8, source="one", protocol={"mean": [0.5], "std": [0.5]})
    two = made(0.7, source="two")
    pages.write([one, two])
    assert one.synth_id
    assert two.synth_id
    rng = np.random.default_rng(0)
    pages.images(one.synth_id, rng.normal(size=(6, 1, 8, 8)), np.array([0, 1, 2] * 2), {"loss": [[0, 3.0], [9, 1.0]]})
    pages.images(two.synth_id, rng.normal(size=(6, 1, 8, 8)), None, {})
    app = pages.open("images", a="one", b="two")
    assert not app.exception
    drawn = charts(app)
    assert not any(grid["layout"]["yaxis"]["ticktext"] for grid in drawn[:2])  # one has no labels: neither is by class
    assert drawn[2]["data"][0]["y"] == [3.0, 1.0]
    assert text_of(app).count("the first 6 images") == 2
    assert "two: no curves recorded" in text_of(app)
    pages.images(two.synth_id, rng.normal(size=(3, 1, 8, 8)), np.array([0, 1, 2]), {})
    app = pages.open("images", a="one", b="two")
    assert [grid["layout"]["yaxis"]["ticktext"] for grid in charts(app)[:2]] == [["class 0", "class 1", "class 2"]] * 2
    assert text_of(app).count("the first 8 images of each class") == 2


def test_page_opens_on_several_networks_one_network_and_real_images(measured: Pages) -> None:
    app = measured.open("images")
    assert not app.exception
    table = snapshot().table
    suite, *chosen = (str(np.ravel(app.query_params[key])[0]) for key in ("suite", "a", "b", "c"))
    rows = [table[(table["suite"] == suite) & (table["source"] == source)] for source in chosen]
    assert [set(part["access"]) for part in rows[:2]] == [{"T2b"}, {"T2a"}]
    assert set(rows[2]["control"]) == {"upper"}
    pictures = [image for element in app.get("imgs") for image in element.proto.imgs] or app.get("image")
    assert len(pictures) == 3


def test_page_lists_the_rows_that_saw_the_same_content(pages: Pages) -> None:
    same, other = {"image_digest": "a" * 32}, {"image_digest": "b" * 32}
    fed = [made(0.8, source="one", compressor=c) for c in ("p", "q")] + [
        made(0.6, source="one", compressor="r", seed=1)
    ]
    given = [one.model_copy(update=new) for one, new in zip(fed, (same, same, other), strict=True)]
    pages.write(given)
    app = pages.open("images", a="one", seed="0")
    assert not app.exception
    text = text_of(app)
    assert "2 compressed cells used it" in text
    assert f"digest {'a' * 12}" in text
    links = set(re.findall(r"cell=([0-9a-f]+)", text))
    assert links == {one.cell_id for one in given[:2]}


def test_a_damaged_batch_is_a_sentence(pages: Pages) -> None:
    one = made(0.8, source="one")
    pages.write([one])
    assert one.synth_id
    pages.images(one.synth_id, np.zeros((1, 1, 4, 4)), None, {})
    (pages.folder / "artifacts" / one.synth_id[:2] / one.synth_id / "00000.safetensors").write_bytes(b"x")
    app = pages.open("images")
    assert not app.exception
    assert any("damaged" in e.value for e in app.warning)


def test_measures_belong_to_the_image_set(pages: Pages) -> None:
    def measure(source: str, target: str, loss: float, control: str = "none") -> None:
        found = made(0.5, source=source, target=target, control=control, compressor="", setting_label="", suite="q")
        metrics = {"bn_loss_u1": loss}
        pages.write([found.model_copy(update={"metrics": metrics, "correct": None, "test_count": 0})])

    for target, factor in (("x", 3.0), ("y", 2.0)):
        measure("one", target, 10 * factor)
        measure("real_ones", target, 10.0, "upper")
    pages.write([made(0.8, source="one", suite="s")])
    app = pages.open("images", suite="s")
    text = text_of(app)
    assert ">25.0<" in text  # the mean of 30 and 20
    assert "20.0 to 30.0" in text
    order = [text.index(f">{t}<") for t in ("y", "x")]
    assert order == sorted(order)  # nearest first
    assert "2.0 ×" in text
    assert "3.0 ×" in text


def test_the_page_opens_on_images_that_are_measured(measured: Pages) -> None:
    app = measured.open("images")
    assert not app.exception
    (name,) = [app.query_params["suite"]] if isinstance(app.query_params["suite"], str) else app.query_params["suite"]
    suite = suite_of(name)
    assert suite is not None
    assert suite.measures  # a suite that measures images, whichever of them comes first
    assert "Not measured" not in text_of(app)


@pytest.mark.parametrize(
    ("value", "said"), [(146.26, "146"), (4.118, "4.12"), (-0.00118, "-0.00118"), (0.0, "0"), (None, "–")]
)
def test_a_measure_has_three_significant_digits(value: float | None, said: str) -> None:
    assert significant(value) == said


def test_page_shows_the_packed_grids(measured: Pages) -> None:
    app = measured.open("images", suite="synthesis_quality", a="mixmix", b="real", measure="mmd_kid")
    assert not app.exception
    assert "as they came with the package" in text_of(app)
    assert "16 of 16" in text_of(app)
    dots = charts(app)[-1]["data"]
    assert {t["name"]: len(t["text"]) for t in dots if t["name"] != "other sources"} == {
        "mixmix [zoo:full]": 16,
        "real": 16,
    }
