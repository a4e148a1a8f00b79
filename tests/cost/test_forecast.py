"""Forecasts: how seconds follow from those of other jobs, and how well the shipped records foretell each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import pytest

from bench.cost import calibration, evidence
from bench.cost.calibration import Calibration, Timed
from bench.cost.effort import STEPS, effort, step_of
from bench.cost.evidence import BATCH, COMPRESSION, SEARCH, Spent
from bench.cost.forecast import Facts, Forecast, KindTotal, Seconds, wall_seconds
from bench.spec.catalogue import ShippedCatalogue
from tests import pick
from tests.benchmarks.costs import WAYS, ratios
from tests.sources.costs import passes

ROW = Spent(COMPRESSION, "ptq", "a", "small", 1e6, 1000.0, 10.0)


def speed(device: str = "cpu", scale: float = 1.0, small: float = 1e-10, large: float = 1e-11) -> Calibration:
    """A machine that takes ``small`` seconds a multiply-accumulate of a network of 1e6, ``large`` of one of 1e9."""
    timed = tuple(
        Timed(step=step, network=name, macs=macs, batch=8, passes=16, seconds=per * macs, cpu_seconds=per * macs)
        for step in STEPS
        for name, macs, per in (("small", 1e6, small * scale), ("large", 1e9, large * scale))
    )
    facts = {"cpu": "some"}
    return Calibration.model_validate(
        {"device": device, "machine": "there", "facts": facts, "threads": 1, "cores": 4, "date": "2026-01-01"}
        | {"timed": timed}
    )


def forecast(
    own: Sequence[Spent] = (), others: Sequence[Spent] = (), here: Calibration | None = None, device: str = "cpu"
) -> Forecast:
    return Forecast(device, own, others, speed(), here, Facts(lambda name: None, 0))


def seconds(found: Seconds | None) -> float:
    assert found is not None
    return found.seconds


# --- effort ---

INVERSIONS = [
    name
    for name, source in sorted(pick.methods("sources", params=("iterations", "half_iterations")).items())
    if "slack" not in source.Params.model_fields  # finds its bands first: a part that does not grow with iterations
]


@pytest.mark.parametrize("name", INVERSIONS)
@pytest.mark.parametrize("preset", ["mini", "paper"])
def test_effort_of_an_inversion_is_proportional_to_its_passes(name: str, preset: str) -> None:
    """One factor for all settings of a method, against the tests' own count of what each source does."""
    sources = ShippedCatalogue().sources
    source = sources.get(name)
    params = source.Params.model_validate({**source.presets[preset], "half_iterations": 0})
    size = source.batch_size(params)
    twice = params.model_copy(update={"iterations": 2 * params.iterations})
    first, second = (effort(one.model_dump(mode="json"), size) for one in (params, twice))
    assert second / first == pytest.approx(passes(name, twice, size) / passes(name, params, size), rel=0.02)


def test_iterations_on_images_of_half_the_side_count_a_quarter() -> None:
    assert effort({"iterations": 100, "half_iterations": 40, "batch": 2}, 10) == (60 + 10) * 2


def test_a_chain_is_the_sum_of_its_steps() -> None:
    one, two = {"iterations": 3, "batch": 4}, {"steps": 5, "batch": 6}
    chain = {"steps": [{"method": "a", "params": one}, {"method": "b", "params": two}]}
    assert effort(chain, 100) == 3 * 4 + 5 * 6
    assert (step_of(chain), step_of(one), step_of(two), step_of({"calibration": 8})) == (
        *("training", "ptq", "training"),
        "forward",
    )


def test_an_epoch_sees_no_more_images_than_there_are() -> None:
    assert effort({"epochs": 2, "samples": 5000, "batch": 64}, 256) == 2 * 256


# --- forecast ---


def test_seconds_follow_work() -> None:
    here = forecast(own=[ROW])
    assert seconds(here.part(ROW)) == 10.0
    assert seconds(here.part(replace(ROW, effort=3000.0))) == pytest.approx(30.0)
    assert seconds(here.part(replace(ROW, macs=1.2e6, network="other"))) == pytest.approx(12.0)


def test_this_machines_own_records_come_first() -> None:
    found = forecast(own=[replace(ROW, seconds=4.0)], others=[ROW], here=speed(scale=2)).part(ROW)
    assert found == Seconds(4.0, "own")


def test_another_machines_are_scaled_by_the_calibrations() -> None:
    scaled, plain = forecast(others=[ROW], here=speed(scale=3)).part(ROW), forecast(others=[ROW]).part(ROW)
    assert seconds(scaled) == pytest.approx(30.0)
    assert seconds(plain) == pytest.approx(10.0)
    assert scaled is not None
    assert plain is not None
    assert (scaled.basis, plain.basis) == ("calibrated", "elsewhere")


def test_a_larger_network_runs_at_its_own_speed() -> None:
    large = replace(ROW, network="large", macs=1e9)
    plain = seconds(forecast(others=[ROW], here=speed()).part(large))
    assert plain == pytest.approx(10.0 * 1000 / 10)  # a thousand times the work, at ten times the speed
    assert seconds(forecast(own=[ROW], here=speed()).part(large)) == pytest.approx(plain)


def test_between_two_networks_the_speed_lies_between() -> None:
    found = speed().per_mac("ptq", 10**7.5)
    assert found == pytest.approx(10**-10.5)
    assert speed().per_mac("ptq", 1.0) == pytest.approx(1e-10)
    assert speed().per_mac("ptq", 1e12) == pytest.approx(1e-11)


def test_a_gpu_is_foretold_by_its_calibration() -> None:
    gpu = forecast(others=[ROW], here=speed("cuda", scale=0.01), device="cuda")
    assert seconds(gpu.part(ROW)) == pytest.approx(0.1)


def test_another_method_serves_where_there_is_none_and_says_so() -> None:
    found = forecast(own=[ROW]).part(replace(ROW, method="b"))
    assert found == Seconds(10.0, "own", same_method=False)
    assert forecast(own=[ROW]).part(replace(ROW, method="b", step="forward")) is None
    assert forecast(own=[ROW]).part(replace(ROW, kind=SEARCH)) is None
    both = forecast(own=[ROW], others=[replace(ROW, method="b", seconds=7.0)]).part(replace(ROW, method="b"))
    assert both is not None
    assert both.seconds == pytest.approx(7.0)
    assert (both.basis, both.same_method) == ("elsewhere", True)


def test_a_search_has_a_constant_and_a_share_of_its_effort() -> None:
    rows = [
        Spent(SEARCH, "training", "s", "small", 1e6, size, 0.001 * (500 + 2 * size), 500 + 2 * size)
        for size in (100.0, 1000.0)
    ]
    assert seconds(forecast(own=rows).part(replace(rows[0], effort=10_000.0))) == pytest.approx(20.5)


def test_workers_share_the_work_and_wait_for_the_longest_job() -> None:
    total = KindTotal()
    for found in (Seconds(10.0, "own"), Seconds(50.0, "own"), None):
        total.add(found)
    assert (total.jobs, total.unknown, total.seconds) == (3, 1, 60.0)
    assert wall_seconds({"a": total}, 1) == 60.0
    assert wall_seconds({"a": total}, 4) == 50.0


# --- against what was recorded ---


def test_shipped_records_foretell_each_other() -> None:
    """Each row by the others, as a plan does it: within half and double at the median, for batches and compressions,
    where a method is known on other networks, and where only other methods are."""
    rows = evidence.shipped()
    assert len(rows) > 100
    for name in WAYS:
        for kind in (BATCH, COMPRESSION):
            found = [ratio for ratio, _ in ratios(rows, WAYS[name], scaled=True)[kind]]
            assert 0.5 < median(found) < 2, (name, kind)


def test_shipped_costs_are_those_of_the_records() -> None:
    """Some row of a pack, worked out anew, is in the brief file, if the pack is not newer than that."""
    from bench.store.measured import measured_folder, read_pack

    pack = read_pack(measured_folder() / "quickstart.json.xz")
    methods = {(row.kind, row.method, row.network, row.effort) for row in evidence.shipped()}
    found = evidence.of_records(pack)
    assert found
    assert {(row.kind, row.method, row.network, row.effort) for row in found} <= methods


def test_the_reference_is_whole() -> None:
    found = calibration.reference()
    assert {one.step for one in found.timed} == set(STEPS)
    assert max(one.macs for one in found.timed) > 1e9
