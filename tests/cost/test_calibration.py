"""A machine's calibration: measured, kept, read again, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cost import calibration
from bench.cost.effort import STEPS
from bench.cost.steps import calibrate
from bench.errors import BenchError, SuiteError
from bench.zoo.targets import target_names

NETWORK = next(name for name in target_names("fashion_mnist") if "resnet18" in name)


@pytest.fixture(scope="module")
def measured() -> calibration.Calibration:
    said: list[str] = []
    found = calibrate([NETWORK], "cpu", 1, 0.01, lambda stage, step, total: said.append(stage))
    assert said == [f"{NETWORK} {step}" for step in STEPS]
    return found


def test_every_step_is_timed(measured: calibration.Calibration) -> None:
    assert [one.step for one in measured.timed] == list(STEPS)
    passes = {one.step: one.passes / one.batch for one in measured.timed}
    assert passes == {"synthesis": 2, "ptq": 2, "training": 3, "forward": 1}
    assert all(one.seconds > 0 and one.cpu_seconds > 0 for one in measured.timed)
    assert measured.is_here()


def test_it_is_kept_and_read_again(
    measured: calibration.Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert calibration.kept_here() == ()
    place = calibration.keep(measured)
    assert place == tmp_path / "costs" / "cpu.json"
    assert calibration.kept_here() == (measured,)
    other = measured.timed[0].model_copy(update={"network": "other"})
    calibration.keep(measured.model_copy(update={"timed": (other,)}))
    (both,) = calibration.kept_here()
    assert {one.network for one in both.timed} == {NETWORK, "other"}
    calibration.keep(measured.model_copy(update={"machine": "elsewhere"}))
    assert calibration.kept_here() == ()  # another machine's, in a folder that both share


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no calibration of costs"),
        ("[]", "is no calibration of costs"),
        ('{"form": "datafree-bench cost 1"}', "device: Field required"),
    ],
)
def test_what_is_no_calibration_is_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "cost.json"
    path.write_text(content)
    with pytest.raises(BenchError, match=said) as caught:
        calibration.read_calibration(path)
    assert "bench calibrate-cost --out FILE" in str(caught.value)


@pytest.mark.parametrize("value", [0, -1.0, "Infinity", "fast"])
def test_impossible_times_are_refused(measured: calibration.Calibration, value: object, tmp_path: Path) -> None:
    raw = json.loads(measured.model_dump_json())
    raw["timed"][0]["seconds"] = value
    path = tmp_path / "cost.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(BenchError, match=r"timed\.0\.seconds"):
        calibration.read_calibration(path)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot be read"):
        calibration.read_calibration(tmp_path / "none.json")


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(SuiteError, match="no such network"):
        calibrate(["timm:resnet81"], "cpu", 1, 0.01, lambda *_: None)
