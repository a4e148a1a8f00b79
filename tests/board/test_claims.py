"""Verdicts on constructed cases: supported, refuted, open, and every reason to be open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from bench.board.claims.judging import Verdict, judge
from bench.board.stats.paired import paired_difference
from bench.store.records import ResultRecord

from .make import bits, record, seeds


def thrice(correct: Any, **fields: Any) -> list[ResultRecord]:
    """The same answers under three seeds: enough for a verdict, and seeds that do not matter."""
    return [record(correct, seed=seed, **fields) for seed in range(3)]


def quiet(**fields: Any) -> list[ResultRecord]:
    """Rows beside them whose seeds do not matter either, so that the variance between seeds is known to be small."""
    return [r for k in range(8) for r in thrice(0.80 + k / 1000, source=f"beside{k}", **fields)]


TARGETS = ("resnet18_w10", "vgg_w8", "mnasnet_w025")
OWN_BETTER = {
    "says": "images inverted from one network serve another one worse",
    "better": {"source": "kw", "model": "own"},
    "worse": {"source": "kw", "model": "foreign", "over": "mean"},
    "by": "target",
}


def grid(own: float, foreign: float, count: int = 3, spread: float = 0.002, **fields: Any) -> list[ResultRecord]:
    """kw from each target on each target, ``count`` seeds; accuracy own on the diagonal, foreign off it."""
    records = []
    for i, target in enumerate(TARGETS):
        for j, model in enumerate(TARGETS):
            for seed in range(count):
                accuracy = (own if target == model else foreign) + spread * np.sin(7 * seed + 3 * i + j)
                kept = {"source": "kw", "model": model, "target": target, "seed": seed, "target_digest": target}
                records.append(record(float(accuracy), protocol_id=f"p-{target}", **(kept | fields)))
    return records


def one(claims: Any, records: list[ResultRecord], **more: Any) -> Verdict:
    return judge([claims], records, **more)[0]


def test_supported_refuted_open() -> None:
    up = one(OWN_BETTER, grid(0.85, 0.80))
    assert up.verdict == "supported"
    assert up.difference == pytest.approx(5, abs=0.5)
    assert up.low is not None
    assert up.low > 0
    assert (up.pairs, up.seeds, up.images, up.settings) == (3, 3, 2000, ("W4A4",))
    assert up.remarks == ()
    assert one(OWN_BETTER, grid(0.80, 0.85)).verdict == "refuted"
    assert one(OWN_BETTER, grid(0.80, 0.80, spread=0.0)).verdict == "open"
    noisy = [*seeds([0.86, 0.78, 0.80], source="a"), *seeds([0.79, 0.80, 0.81], source="b")]
    unclear = one({"says": "x", "better": {"source": "a"}, "worse": {"source": "b"}}, noisy)
    assert unclear.difference == pytest.approx(100 * (2.44 - 2.40) / 3)
    assert unclear.verdict == "open"  # three seeds that scatter by points decide nothing


def test_margin_moves_the_line() -> None:
    records = grid(0.85, 0.80)
    assert one(OWN_BETTER | {"margin": 2.0}, records).verdict == "supported"
    assert one(OWN_BETTER | {"margin": 8.0}, records).verdict == "refuted"
    assert one(OWN_BETTER | {"margin": 5.0}, records).verdict == "open"
    worse = grid(0.80, 0.82)
    assert one(OWN_BETTER, worse).verdict == "refuted"
    assert one(OWN_BETTER | {"margin": -4.0}, worse).verdict == "supported"  # "at most four points worse"


def test_difference_is_the_mean_over_by_of_paired_differences() -> None:
    found = one(OWN_BETTER, grid(0.85, 0.80, count=1, spread=0.01))
    parts = [p for p in found.parts if p.axis == "target"]
    assert [p.value for p in parts] == list(TARGETS)
    assert found.difference == pytest.approx(np.mean([p.difference for p in parts]))
    assert found.seeds == 1


@pytest.mark.parametrize(("count", "word"), [(1, "one seed"), (2, "two seeds")])
def test_few_seeds_are_no_verdict(count: int, word: str) -> None:
    claim = {"says": "x", "better": {"source": "a"}, "worse": {"source": "b"}}
    records = [*seeds([0.9] * count, source="a"), *seeds([0.5] * count, source="b")]
    found = one(claim, records)
    assert (found.verdict, found.seeds, found.text) == (word, count, word)
    assert found.difference == pytest.approx(40)
    assert found.low is not None
    assert found.low < found.difference < (found.high or 0)
    assert one(claim, [*seeds([0.9] * 3, source="a"), *seeds([0.5] * 3, source="b")]).verdict == "supported"


def test_one_seed_has_the_interval_that_another_seed_would_need() -> None:
    base = bits(0.8, 3)
    better = base.copy()
    better[np.flatnonzero(~base)[:20]] = True  # one point, all of it discordant in one direction
    claim = {"says": "x", "better": {"source": "a"}, "worse": {"source": "b"}}
    found = one(claim, [record(better, source="a"), record(base, source="b")])
    assert paired_difference(better[None], base[None]).interval().low > 0  # on the images of that seed it is sure
    assert found.low is not None
    assert found.low < -1  # rows at 80 % move by more between seeds


def test_holm_widens_intervals_over_the_family() -> None:
    base = bits(0.8, 3)
    slightly = base.copy()
    slightly[np.flatnonzero(~base)[:9]] = True
    slightly[np.flatnonzero(base)[:2]] = False
    records = [*thrice(slightly, source="a"), *thrice(base, source="b"), *quiet()]
    claim = {"says": "x", "better": {"source": "a"}, "worse": {"source": "b"}}
    alone = one(claim, records)
    assert alone.verdict == "supported"
    assert 0.01 < (alone.p_value or 0) < 0.05
    missing = claim | {"better": {"source": "nobody"}}
    family = judge([missing, claim, missing, missing], records)
    assert family[1].verdict == "open"
    assert family[1].level == pytest.approx(1 - 0.05 / 4)
    assert [v.verdict for v in family] == ["open"] * 4


def test_verdict_can_be_read_off_the_interval() -> None:
    for gap in np.linspace(-0.02, 0.02, 9):
        for found in judge([OWN_BETTER, OWN_BETTER | {"margin": 1.0}], grid(0.8 + gap, 0.8, spread=0.004)):
            assert found.low is not None
            assert found.high is not None
            expected = "supported" if found.low > found.margin else "refuted" if found.high < found.margin else "open"
            assert found.verdict == expected
            assert (found.p_value <= 1 - found.level + 1e-9) == (found.verdict != "open")


def test_like_is_paired_with_like() -> None:
    # better in each compressor by 2 points; compressors differ by 30
    records = []
    for compressor, base in (("rtn", 0.5), ("brecq", 0.8)):
        records += grid(base + 0.02, base, compressor=compressor, spread=0.0)
    found = one(OWN_BETTER, records)
    assert found.verdict == "supported"
    assert found.difference == pytest.approx(2, abs=0.01)
    assert found.pairs == 6
    # a compressor that only one side names holds for both
    named = OWN_BETTER | {"better": {"source": "kw", "model": "own", "compressor": "rtn"}}
    assert one(named, records).pairs == 3
    assert one(named, records).difference == pytest.approx(2, abs=0.01)
    across = {"says": "x", "better": {"compressor": "brecq"}, "worse": {"compressor": "rtn"}, "by": ["target"]}
    assert one(across, records).difference == pytest.approx(30, abs=0.01)
    assert one(across, records).pairs == 9


def test_parts_show_at_which_bits() -> None:
    records = grid(0.85, 0.85, setting_label="W8A8", spread=0.0) + grid(0.65, 0.60, setting_label="W2A4", spread=0.0)
    found = one(OWN_BETTER, records)
    assert set(found.settings) == {"W8A8", "W2A4"}
    at = {p.value: p.difference for p in found.parts if p.axis == "setting"}
    assert at["W8A8"] == pytest.approx(0, abs=0.01)
    assert at["W2A4"] == pytest.approx(5, abs=0.01)
    by_seed = one(OWN_BETTER | {"by": ["target", "seed"]}, records)
    assert [p.value for p in by_seed.parts if p.axis == "seed"] == ["0", "1", "2"]


def test_over_each_needs_every_one() -> None:
    records = [
        *seeds([0.85, 0.85, 0.85], source="mixmix"),
        *seeds([0.80, 0.80, 0.80], source="kw"),
        *seeds([0.70, 0.70, 0.70], source="zeroq"),
    ]
    claim = {
        "says": "x",
        "better": {"source": "mixmix"},
        "worse": {"source": ["kw", "zeroq"], "over": "each"},
    }
    found = one(claim, records)
    assert found.verdict == "supported"
    assert found.difference == pytest.approx(5)  # the weakest comparison is shown
    assert "kw" in found.deciding
    strong = [*records, *seeds([0.9, 0.9, 0.9], source="di")]
    listed = claim | {"worse": {"source": ["kw", "zeroq", "di"], "over": "each"}}
    assert one(listed, strong).verdict == "refuted"
    assert "di" in one(listed, strong).deciding
    mean = claim | {"worse": {"source": ["kw", "zeroq", "di"], "over": "mean"}}
    assert one(mean, strong).difference == pytest.approx(5)
    best = claim | {"worse": {"source": ["kw", "zeroq", "di"], "over": "best"}}
    assert one(best, strong).difference == pytest.approx(-5)


def test_the_network_of_the_images_follows_from_the_source() -> None:
    records = [record(0.85, source="mixmix", model="zoo:full"), record(0.8, source="kw", model=TARGETS[0])]
    records.append(record(0.7, source="kw", model=TARGETS[1]))
    claim = {"says": "x", "better": {"source": "mixmix"}, "worse": {"source": "kw"}}
    found = one(claim, records)
    assert found.difference == pytest.approx(10)
    assert found.pairs == 1
    foreign = one(claim | {"worse": {"source": "kw", "model": "foreign"}}, records)
    assert foreign.difference == pytest.approx(15)


def test_bonferroni_over_the_comparisons_that_could_refute() -> None:
    base = bits(0.8, 3)
    slightly = base.copy()
    slightly[np.flatnonzero(~base)[:9]] = True
    slightly[np.flatnonzero(base)[:2]] = False
    pair = [*thrice(base, source="a"), *thrice(slightly, source="b"), *quiet()]
    single = {"says": "x", "better": {"source": "a"}, "worse": {"source": ["b"], "over": "each"}}
    assert one(single, pair).verdict == "refuted"
    among = single | {"worse": {"source": ["b", "c", "e"], "over": "each"}}
    found = one(among, [*pair, *thrice(0.5, source="c"), *thrice(0.5, source="e")])
    assert found.verdict == "open"  # p of about .035, three chances
    assert found.p_value == pytest.approx(3 * (one(single, pair).p_value or 0), rel=0.01)  # the line moves a little
    assert found.level == pytest.approx(1 - 0.05 / 3)


def test_missing_cells_leave_it_open() -> None:
    records = grid(0.85, 0.80)
    holed = [r for r in records if not (r.seed == 1 and r.model == "vgg_w8" and r.target == "vgg_w8")]
    found = one(OWN_BETTER, holed)
    assert found.verdict == "open"
    assert found.difference is None
    assert "kw [vgg_w8] → vgg_w8" in "; ".join(found.remarks)
    assert "2 of 3" in "; ".join(found.remarks)
    done = {p.value: p.difference for p in found.parts if p.axis == "target"}
    assert done["vgg_w8"] is None
    assert done["mnasnet_w025"] == pytest.approx(5, abs=0.5)  # what is complete is still shown
    failed = [*holed, record(None, source="kw", model="vgg_w8", target="vgg_w8", seed=1, reason="boom")]
    assert "boom" in "; ".join(one(OWN_BETTER, failed).remarks)


def test_not_applicable_is_left_out_and_named() -> None:
    records = [r for r in grid(0.85, 0.80) if r.target != "vgg_w8"]
    for model in TARGETS:
        fields = {"source": "kw", "model": model, "target": "vgg_w8", "status": "not_applicable", "reason": "no BN"}
        records += [record(None, seed=k, **fields) for k in range(3)]
    found = one(OWN_BETTER, records)
    assert found.verdict == "supported"
    assert found.pairs == 2
    assert "no BN" in "; ".join(found.remarks)


def test_stale_protocols_test_sets_and_doubles() -> None:
    records = grid(0.85, 0.80)
    versions = {("sources", "kw"): 2}
    stale = one(OWN_BETTER, records, versions=versions)
    assert (stale.verdict, "stale" in "; ".join(stale.remarks)) == ("open", True)
    fresh = grid(0.80, 0.85, source_version=2)
    assert one(OWN_BETTER, records + fresh, versions=versions).verdict == "refuted"
    other = [record(0.85, source="a", protocol_id="p1"), record(0.8, source="b", protocol_id="p2")]
    claim = {"says": "x", "better": {"source": "a"}, "worse": {"source": "b"}}
    assert "protocols differ" in "; ".join(one(claim, other).remarks)
    subset = [record(0.85, source="a"), record(0.8, source="b", test_digest="t2")]
    assert "test sets differ" in "; ".join(one(claim, subset).remarks)
    twice = [record(0.85, source="a"), record(0.9, source="a", target_digest="w2"), record(0.8, source="b")]
    assert "measured twice" in "; ".join(one(claim, twice).remarks)
    across_bits = {"says": "x", "better": {"bits": "W8A8"}, "worse": {"bits": "W2A4"}}
    two = thrice(0.85, setting_label="W8A8", protocol_id="p8") + thrice(0.6, setting_label="W2A4", protocol_id="p2")
    assert one(across_bits, two).verdict == "supported"  # bits are what the claim is about


def test_different_test_sets_are_independent() -> None:
    records = grid(0.85, 0.80, spread=0.01)
    same = one(OWN_BETTER, records)
    apart = one(OWN_BETTER, [r.model_copy(update={"test_digest": r.target}) for r in records])
    assert apart.difference == pytest.approx(same.difference)
    assert apart.images == 3 * same.images


def test_a_label_means_its_row_alone() -> None:
    records = [
        *thrice(0.85, source="mixmix"),
        *thrice(0.80, source="mixmix(mix=1)"),
    ]
    claim = {"says": "x", "better": {"source": "mixmix"}, "worse": {"source": "mixmix(mix=1)"}}
    found = one(claim, records)
    assert (found.verdict, found.pairs) == ("supported", 1)
    only = {"says": "x", "better": {"source": "mixmix"}, "worse": {"source": "kw"}}
    by_method = [record(0.85, source="mixmix(mix=2)"), record(0.8, source="kw")]
    assert one(only, by_method).pairs == 1  # no row of that label: the method's name


def test_image_counts_are_compared_where_named_and_else_paired_like_with_like() -> None:
    records = [
        r
        for n, top1 in ((64, 0.6), (256, 0.7), (1024, 0.8))
        for r in (record(top1, source="mixmix", n=n), record(top1 - 0.1, source="kw", n=n))
    ]
    claim = {"says": "x", "better": {"source": ["mixmix"], "images": [1024]}, "worse": {"images": [64, 256]}}
    claim["worse"]["source"] = ["mixmix"]  # type: ignore[index]
    found = one(claim, records)
    assert found.pairs == 1
    assert found.difference == pytest.approx(80 - 65)
    sources = {"says": "x", "better": {"source": ["mixmix"]}, "worse": {"source": ["kw"]}}
    assert one(sources, records).pairs == 3
    assert one(sources, records).difference == pytest.approx(10)


def test_nothing_to_pair_and_bad_claims() -> None:
    claim = {"says": "x", "better": {"source": "a"}, "worse": {"source": "b"}}
    assert one(claim, []).remarks == ("no two rows to pair",)
    assert judge([], []) == []
    with pytest.raises(ValidationError):
        one({"says": "x"}, [])


DEPENDS = {
    "says": "data mixing helps",
    "better": {"source": "mixed"},
    "worse": {"source": "plain"},
    "by": ["target", "bits"],
}


def opposite(at_two: float, at_four: float, scatter: float = 0.002) -> list[ResultRecord]:
    """Gains of mixing at W2A4 and at W4A4 on three targets, on rows beside them that scatter alike."""
    records = []
    for target in TARGETS:
        for label, base, gain in (("W2A4", 0.6, at_two), ("W4A4", 0.8, at_four)):
            for source, top1 in (("plain", base), ("mixed", base + gain), *((f"m{k}", base) for k in range(4))):
                shift = scatter * np.sin(np.arange(3) * 7 + 3 * len(target) + ord(source[-1]))
                shift -= shift.mean()
                same = {"source": source, "target": target, "target_digest": target, "setting_label": label}
                records += seeds([float(top1 + s) for s in shift], protocol_id=f"{label}-{target}", **same)
    return records


def test_opposite_effects_are_not_pooled() -> None:
    found = one(DEPENDS, opposite(0.02, -0.02))
    assert found.verdict == "depends"
    assert (found.depends_on, found.above, found.below) == ("bits", ("W2A4",), ("W4A4",))
    assert found.text == "depends on bits (above: W2A4; below: W4A4)"
    assert found.p_heterogeneity is not None
    assert found.p_heterogeneity < 0.001
    # the mean is clearly above zero, and still it does not hold at W4A4
    assert one(DEPENDS, opposite(0.06, -0.02)).verdict == "depends"
    assert one(DEPENDS, opposite(0.06, 0.01)).verdict == "supported"  # unlike, but of one sign
    assert one(DEPENDS, opposite(0.001, -0.001)).verdict == "open"  # within their intervals
    assert one(DEPENDS | {"margin": -5.0}, opposite(0.02, -0.02)).verdict == "supported"  # both clear this margin


def test_the_best_is_picked_on_other_seeds_and_images() -> None:
    """Eight rows of the same true accuracy: the best of them is no better than the one they are compared with."""
    rng = np.random.default_rng(5)
    names = [f"w{k}" for k in range(8)]
    claim = {"says": "x", "better": {"source": "a"}, "worse": {"source": names, "over": "best"}}
    naive, honest, words = [], [], []
    for _ in range(40):
        top1 = {name: rng.normal(0.8, 0.02, 3) for name in ("a", *names)}
        records = [record(rng.random(400) < t, source=n, seed=k) for n, v in top1.items() for k, t in enumerate(v)]
        means = {n: np.mean([r.metrics["top1"] or 0 for r in records if r.source == n]) for n in top1}
        found = one(claim, records)
        naive.append(means["a"] - max(means[n] for n in names))
        honest.append(found.difference or 0.0)
        words.append(found.verdict)
    assert np.mean(naive) < -1.5
    assert abs(np.mean(honest)) < 0.9
    assert words.count("refuted") <= 4
