"""The answer to planted results: chosen by one half, reported on the other, ties and the cheapest among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.advise.answer import Answer, answer
from bench.advise.budget import Candidate, Costs
from bench.advise.candidates import Candidates, Compressor, LeftOut, Source
from bench.advise.exam import Exam
from bench.advise.network import Network
from bench.advise.rounds import LEVELS, Field
from bench.advise.search import Clock, Search, Stage
from bench.cli.advise import show
from bench.interfaces import NetworkInfo
from bench.run.session import Options
from bench.store.bitmaps import pack_bits
from bench.store.records import ResultRecord

from .test_rounds import record

IMAGES = 4000
INFO = NetworkInfo("n", "d", (0.5,), (0.25,), 1, 10, (1, 32, 32), 3, 100, 100, 91.0)


def measured(
    source: str, even: float, odd: float, size: float = 100.0, seconds: float = 1.0, **more: Any
) -> ResultRecord:
    """A record with these shares of right answers on the images at even and at odd places."""
    correct = np.zeros(IMAGES, dtype=bool)
    half = IMAGES // 2
    draw = np.random.default_rng(more.pop("draw", 0))
    for start, share in ((0, even), (1, odd)):
        places = draw.permutation(half)[: round(share * half)]
        correct[start::2][places] = True
    found = record(source, "c", seconds, 0.0, 0.0)
    metrics = {"size_bytes": size, "top1": 100 * float(correct.mean()), "fp_top1": 91.0}
    return found.model_copy(update={"correct": pack_bits(correct), "test_count": IMAGES, "metrics": metrics, **more})


def answered(
    rows: dict[str, list[ResultRecord]],
    kind: str = "accuracy",
    references: dict[str, dict[int, ResultRecord]] | None = None,
) -> Answer:
    network = Network("n", "n", "fashion_mnist", INFO, (1, 32, 32), 10)
    sources = tuple(Source(name, "none", None, False, {}) for name in rows)
    exam = Exam(kind, "a", "a", "some images", None if kind == "accuracy" else "unlabelled")  # type: ignore[arg-type]
    field = Field(network, exam, Candidates(sources, (), (Compressor("c", 1, {}),), (LeftOut("x", "for a reason"),)))
    search = Search(
        field, "advise_n", Options("n"), Clock(1.0, Path("none"), lambda: 0.0), Costs(1), Console(quiet=True)
    )
    cells = {Candidate(name, "c", "W4A4"): {r.seed: r for r in records} for name, records in rows.items()}
    search.stages = [Stage(LEVELS[-1], tuple(cells), cells)]
    search.references = references or {}
    return answer(search)


def test_what_was_lucky_where_it_was_chosen_is_reported_where_it_was_not() -> None:
    found = answered({"lucky": [measured("lucky", 0.9, 0.5)], "sound": [measured("sound", 0.8, 0.8, draw=1)]})
    assert found.pick.cell.source == "lucky"
    assert found.pick.percent == pytest.approx(50.0)
    assert found.pick.interval.low < 50 < found.pick.interval.high
    assert found.pick.chosen == pytest.approx(90.0)
    assert found.lines[1].behind == pytest.approx(-30.0)
    assert found.images == IMAGES // 2


def test_ties_and_the_cheapest_of_them() -> None:
    rows = {
        "best": [measured("best", 0.900, 0.900, size=200)],
        "small": [measured("small", 0.895, 0.897, size=100, draw=1)],
        "fast": [measured("fast", 0.894, 0.896, size=200, seconds=0.1, draw=2)],
        "bad": [measured("bad", 0.7, 0.7, size=10, draw=3)],
    }
    found = answered(rows)
    assert [line.cell.source for line in found.tied] == ["small", "fast"]
    assert found.cheapest.cell.source == "small"
    said = found.sentences()[0]
    assert said.startswith("use best with c at W4A4: 90.00 % [")
    assert "these 2 are not told apart from it: small with c, fast with c; the cheapest of them is small" in said


def test_a_clear_best_is_said_to_be_one() -> None:
    found = answered({"best": [measured("best", 0.9, 0.9)], "bad": [measured("bad", 0.5, 0.5, draw=1)]})
    assert "told apart from all others" in found.sentences()[0]
    assert found.cheapest is found.pick


def test_only_rows_with_as_many_seeds_are_compared() -> None:
    two = [measured("two", 0.8, 0.8, seed=seed, draw=seed) for seed in (0, 1)]
    found = answered({"two": two, "one": [measured("one", 0.99, 0.99)]})
    assert [line.cell.source for line in found.lines] == ["two"]
    assert not any("One seed" in said for said in found.sentences())


def test_a_reference_is_never_the_pick_nor_a_tie() -> None:
    upper = {0: measured("upper", 0.99, 0.99, draw=5)}
    found = answered({"a": [measured("a", 0.9, 0.9)]}, references={"upper": upper})
    assert found.pick.cell.source == "a"
    assert [line.reference for line in found.lines] == [False, True]
    assert not found.tied


def test_agreement_is_said_not_to_be_accuracy_and_how_well_it_foretold_it() -> None:
    rows = {"a": [measured("a", 0.9, 0.9)], "b": [measured("b", 0.8, 0.8, draw=1)]}
    said = " ".join(answered(rows, "agreement").sentences())
    assert "This is not accuracy" in said
    assert "Spearman" in said
    assert "agreement with the float network" in said
    assert "This is not accuracy" not in " ".join(answered(rows).sentences())


def test_the_answer_fits_a_screen() -> None:
    rows = {f"source_{k}": [measured(f"source_{k}", 0.9 - k / 100, 0.9 - k / 100, draw=k)] for k in range(30)}
    console = Console(width=100, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    show(answered(rows), console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 40
    assert "left out: x: for a reason" in lines


def test_a_network_with_random_weights_gets_no_advice() -> None:
    found = answered({"one": [measured("one", 0.9, 0.9)]})
    field = replace(found.field, network=replace(found.field.network, random=True))
    first = replace(found, field=field).sentences()[0]
    assert first.startswith("No advice: n has random weights")
    assert "say nothing" in first
    assert "bench zoo add n FILE" in first
    assert "random" not in " ".join(found.sentences())


@pytest.mark.parametrize(("fp", "said"), [(12.0, True), (91.0, False)])
def test_a_float_network_that_guesses_is_called_so(fp: float, said: bool) -> None:
    found = replace(answered({"one": [measured("one", 0.1, 0.1)]}), fp=fp)
    assert any("guessing 10.00 %" in sentence for sentence in found.sentences()) == said


@pytest.mark.parametrize(("common", "said"), [(0.97, True), (0.2, False)])
def test_agreement_with_one_answer_tells_little(common: float, said: bool) -> None:
    found = answered({"one": [measured("one", 0.9, 0.9)]}, "agreement")
    field = replace(found.field, exam=replace(found.field.exam, common=common))
    assert any("one answer to 97 %" in line for line in replace(found, field=field).sentences()) == said
