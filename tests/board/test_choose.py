"""One answer from all suites: joined rows, controls, ties against a computation by hand, limits, seeds, protocols."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bench.board.choose.answer import Answer, choose
from bench.board.choose.asked import Question, checked, networks, settings, tier_of
from bench.board.choose.joined import Choice
from bench.board.choose.text import cpu, sentence, sure, to_json
from bench.board.index.frame import frame
from bench.board.index.listing import Place, cell_row, cell_table
from bench.board.stats.moderation import Replicates, Term, moderated, seed_variances
from bench.board.stats.multiple import holm
from bench.board.stats.paired import paired_difference
from bench.errors import BenchError
from bench.store.measured import read_measured
from bench.store.records import ResultRecord, StageCost
from tests.board.make import bits, record

TARGET = "resnet18_w10"
BY = "top"


def rows(accuracies: Sequence[float], **fields: Any) -> list[ResultRecord]:
    """A record per seed."""
    spent = {"synthesis": StageCost(cpu_seconds=fields.pop("cpu", 50.0)), "compress": StageCost(cpu_seconds=10.0)}
    given = {"costs": spent, "row_id": _row(fields), **fields}
    return [
        record(bits(accuracy, seed=seed), seed=seed, metrics={"fp_top1": 90.0}, **given)
        for seed, accuracy in enumerate(accuracies)
    ]


def _row(fields: dict[str, Any]) -> str:
    """Of everything but seed, suite and protocol, as the engine's."""
    kept = {key: fields[key] for key in sorted(fields) if key not in ("suite", "protocol_id", "protocol", "costs")}
    return hashlib.sha256(json.dumps(kept, default=str).encode()).hexdigest()[:16]


def ask(records: Sequence[ResultRecord], versions: Any = None, **fields: Any) -> Answer:
    """The answer to a question about :data:`TARGET` at W4A4."""
    question = Question(**{"dataset": "d", "network": TARGET, "bits": "W4A4", **fields})
    table = frame(records, versions=versions)
    cells = cell_table([cell_row(one, Place(str(i), 1, 1)) for i, one in enumerate(records)])
    return choose(question, table, cells, lambda near: [records[int(place)] for place in near["place"]])


def names(found: Sequence[Choice]) -> list[str]:
    return [one.head.source for one in found]


def main_of(answer: Answer) -> Any:
    assert answer.main is not None
    return answer.main


def test_rows_of_several_suites_are_one_with_all_their_seeds() -> None:
    first = rows([0.80, 0.81], source=BY, suite="a")
    second = [one.model_copy(update={"suite": "b"}) for one in rows([0.80, 0.81, 0.85], source=BY, suite="a")]
    found = ask([*first, *second])
    assert len(found.tables) == 1
    pick = main_of(found).pick
    assert pick.seeds == (0, 1, 2)
    assert set(pick.suites) == {"a", "b"}
    assert pick.top1 == pytest.approx((80 + 81 + 85) / 3, abs=0.05)  # each seed once
    assert pick.cpu_s == 60


def test_the_variance_between_seeds_is_that_of_all_joined_rows() -> None:
    accuracies = [[0.80, 0.82], [0.79, 0.80], [0.78, 0.80], [0.77, 0.78], [0.60, 0.66]]
    records = [one for i, two in enumerate(accuracies) for one in rows(two, source=f"s{i}", suite=f"suite{i}")]
    found = main_of(ask(records))
    tops = [np.array(two) * 100 for two in accuracies]
    by_hand = seed_variances([Replicates(float(t.var(ddof=1)), 1, float(t.mean()), 2000, "x", "y") for t in tops])
    known = {one.head.source: one.between for one in (found.pick, *found.tied, *found.apart)}
    for i, variance in enumerate(by_hand):
        assert known[f"s{i}"].moderated == pytest.approx(variance.moderated)
        assert known[f"s{i}"].degrees == pytest.approx(variance.degrees)


def test_a_control_is_shown_and_never_picked() -> None:
    records = [*rows([0.9, 0.9], source="up", control="upper"), *rows([0.7, 0.7], source=BY)]
    found = main_of(ask([*records, *rows([0.8, 0.8], source="down", control="lower", n=64)]))
    assert names([found.pick]) == [BY]
    assert names(found.references) == ["up"]  # of as many images; others only where there is none
    only = ask(rows([0.9, 0.9], source="up", control="upper"))
    assert main_of(only).pick is None
    assert "only controls" in sentence(only)
    assert "Use " not in sentence(only)


def test_ties_are_the_paired_moderated_holm_tests_by_hand() -> None:
    sources = {"one": [0.850, 0.853], "two": [0.849, 0.850], "three": [0.830, 0.832], "four": [0.60, 0.61]}
    records = [one for source, values in sources.items() for one in rows(values, source=source)]
    found = main_of(ask(records))
    every = {one.head.source: one for one in (found.pick, *found.tied, *found.apart)}
    p = {}
    for a in sources:
        for b in sources:
            if a != b:
                tables = [np.stack([every[x].bitmaps[seed] for seed in (0, 1)]) for x in (a, b)]
                terms = [Term(x, weight, every[x].between) for x, weight in ((a, 1.0), (b, -1.0))]
                p[a, b] = moderated(paired_difference(*tables), terms).p_value()
    adjusted: dict[tuple[str, str], float] = {}
    for a in sources:
        others = [b for b in sources if b != a]
        adjusted |= {(a, b): q for b, q in zip(others, holm([p[a, b] for b in others]), strict=True)}
    pick = found.pick.head.source
    apart = {b for b in sources if b != pick and max(adjusted[pick, b], adjusted[b, pick]) <= 0.05}
    assert set(names(found.apart)) == apart
    assert pick == "one"
    assert "four" in apart
    assert "two" not in apart


def test_a_limit_takes_rows_away_and_changes_no_comparison() -> None:
    records = [
        *rows([0.85, 0.85], source="dear", cpu=600.0),
        *rows([0.84, 0.84], source="cheap", cpu=5.0),
        *rows([0.83, 0.83], source="many", n=1024),
        *rows([0.82, 0.82], source="tier", access="T4"),
        *rows([0.50, 0.50], source="low"),
    ]
    assert names([main_of(ask(records)).pick]) == ["dear"]
    quick = main_of(ask(records, minutes=1))
    assert names([quick.pick]) == ["cheap"]
    assert quick.beyond == 1
    assert main_of(ask(records, images=256)).beyond == 1
    assert main_of(ask(records, tier="T2b")).beyond == 1
    none = ask(records, minutes=0.01)
    assert main_of(none).pick is None
    assert "within these limits" in sentence(none)
    wide = {one.head.source for one in main_of(ask(records)).tied}
    narrow = main_of(ask(records, tier="T2b"))
    assert {one.head.source for one in narrow.tied} == wide - {"tier"}


def test_an_unknown_cost_is_beyond_a_limit_of_time() -> None:
    bare = [one.model_copy(update={"costs": {}}) for one in rows([0.9, 0.9], source="bare")]
    found = main_of(ask([*bare, *rows([0.8, 0.8], source=BY)], minutes=5))
    assert names([found.pick]) == [BY]
    assert main_of(ask(bare)).cheapest is None


def test_one_seed_is_the_pick_only_where_nothing_else_is() -> None:
    lucky = rows([0.95], source="lucky", suite="short")
    found = main_of(ask([*lucky, *rows([0.8, 0.8], source=BY)]))
    assert names([found.pick]) == [BY]
    assert names(found.weaker) == ["lucky"]
    alone = ask(lucky)
    assert names([main_of(alone).pick]) == ["lucky"]
    assert main_of(alone).level == "one seed"
    assert "One seed" in sentence(alone)


def test_an_older_version_is_the_pick_only_where_nothing_else_is() -> None:
    old = rows([0.95, 0.95], source="old", source_version=1)
    versions = {("sources", "old"): 2}
    found = ask([*old, *rows([0.8, 0.8], source=BY)], versions)
    assert names([main_of(found).pick]) == [BY]
    assert found.stale == 1
    alone = ask(old, versions)
    assert names([main_of(alone).pick]) == ["old"]
    assert "older versions" in sentence(alone)


def test_protocols_are_not_compared_and_the_one_with_most_methods_answers() -> None:
    few = rows([0.95, 0.95], source="other", protocol_id="p2", protocol={"range": "x"})
    found = ask([*few, *rows([0.8, 0.8], source=BY), *rows([0.79, 0.79], source="next")])
    assert [one.protocol_id for one in found.tables] == ["p1", "p2"]
    assert names([found.tables[0].pick, found.tables[1].pick]) == [BY, "other"]  # type: ignore[list-item]


def test_one_row_under_two_protocols_is_two() -> None:
    both = [*rows([0.8, 0.8], source=BY), *rows([0.9, 0.9], source=BY, protocol_id="p2", suite="t")]
    assert sorted(round(main.pick.top1) for main in ask(both).tables if main.pick) == [80, 90]


def test_searched_bits_answer_when_asked_for_and_mix_with_no_other_bit_operations() -> None:
    def searched(accuracy: float, policy: str, bitops: float) -> list[ResultRecord]:
        found = rows([accuracy, accuracy], source="kind", policy=policy, policy_method=policy)
        costs = {**found[0].costs, "search": StageCost(cpu_seconds=7.0)}
        return [
            one.model_copy(update={"metrics": {**one.metrics, "bitops_g": bitops}, "costs": costs}) for one in found
        ]

    records = [*rows([0.8, 0.8], source=BY), *searched(0.9, "a", 1.0), *searched(0.85, "b", 0.99)]
    records += searched(0.95, "c", 1.5)
    assert names([main_of(ask(records)).pick]) == [BY]
    found = ask(records, per_layer=True)
    held = [{one.head.policy for one in (table.pick, *table.tied, *table.apart) if one} for table in found.tables]
    assert held == [{"a", "b"}, {"c"}]
    assert main_of(found).pick.cpu_s == 67


def test_several_networks_are_a_mean_over_those_that_have_it() -> None:
    def on(target: str, accuracy: float, source: str) -> list[ResultRecord]:
        return rows([accuracy, accuracy], source=source, target=target, target_digest=target, model=target)

    records = [*on("net_a", 0.8, "both"), *on("net_b", 0.6, "both"), *on("net_a", 0.9, "one"), *on("net_b", 0.7, "x")]
    found = main_of(ask(records, network="net_*"))
    assert found.targets == ("net_a", "net_b")
    assert found.pick.top1 == pytest.approx(70, abs=0.1)
    assert found.pick.source == "both [own]"
    assert found.unpaired == 2
    assert found.pick.ends.low < 70 < found.pick.ends.high


def test_what_is_offered_and_what_is_wrong() -> None:
    table = frame([*rows([0.8, 0.8], source=BY), *rows([0.7, 0.7], source=BY, target="resnet9", setting_label="W2A4")])
    assert networks(table, "d") == ["resnet18_w10", "resnet9", "resnet*", "*"]
    assert settings(table, "d", "resnet*") == ["W2A4", "W4A4"]
    good = Question("d", TARGET, "W4A4", tier="T2")
    assert checked(good, table).tier == "T2b"
    assert tier_of("t2A") == "T2a"
    for name, value in (("dataset", "e"), ("network", "resnet19"), ("bits", "W9A9"), ("minutes", -1.0), ("tier", "T9")):
        with pytest.raises(BenchError) as caught:
            checked(Question(**{**good.__dict__, name: value}), table)
        assert caught.value.where == f"--{name}"


def test_words_and_json_agree_with_the_numbers() -> None:
    found = ask([*rows([0.85, 0.85], source="dear", cpu=200.0), *rows([0.848, 0.848], source="cheap", cpu=2.0)])
    said = sentence(found)
    assert "Use dear with brecq at W4A4 on resnet18_w10: 85.0 %" in said
    assert "1 other is not told apart from it; the cheapest of them is cheap with brecq (12 s of CPU)" in said
    assert "about 5.0 points" in said
    plain = json.loads(json.dumps(to_json(found)))
    assert plain["tables"][0]["pick"]["top1"] == pytest.approx(85.0)
    assert plain["tables"][0]["cheapest"]["source"] == "cheap"
    assert "target=resnet18_w10,compressor=brecq" in plain["command"]
    assert sure(found)
    assert [cpu(one) for one in (None, 3.21, 65.0, 150.0, 9000.0)] == ["–", "3.2 s", "65 s", "2.5 min", "2.5 h"]


def test_nothing_measured_is_said() -> None:
    assert "Nothing is measured" in sentence(ask([record(None)]))


def test_the_shipped_answer_joins_three_suites() -> None:
    records = [one for one in read_measured() if one.target == "mobilenetv2_w035" and one.setting_label == "W4A4"]
    found = ask(records, dataset="fashion_mnist", network="mobilenetv2_w035")
    main = main_of(found)
    every = [main.pick, *main.tied, *main.apart, *main.references]
    assert len({suite for one in every for suite in one.suites}) >= 3
    assert any(len(one.suites) > 1 for one in every)
    assert len({one.protocol_id for one in every}) == 1
    assert len({(one.head.row_id) for one in every}) == len(every)
