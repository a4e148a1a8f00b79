"""The policy axis: searches on other images than the compressor's, policies from files, and the plan they make."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from bench.errors import SuiteError
from bench.run import session
from bench.run.session import Options
from bench.spec.graph import BatchJob, PolicyJob
from bench.spec.plan import Plan
from tests import pick

CONTROLS = list(pick.methods("policies", control=True))
SEARCH = CONTROLS[0] if CONTROLS else ""
SUITE = f"""
    suite: bits
    version: 1
    dataset: fashion_mnist
    grid:
      source: [{pick.LOWER}]
      target: [resnet18_w10]
      compressor: [{pick.ROUND}]
      policy: POLICY
      bits: [W3A3]
    images: 40
    seeds: [0]
    test_subset: 200
"""
pytestmark = pytest.mark.skipif(not (SEARCH and pick.LOWER and pick.UPPER), reason="no control is installed")


def plan(folder: Path, policy: str) -> Plan:
    """The plan of the suite with this policy axis."""
    file = folder / "bits.yaml"
    file.write_text(dedent(SUITE).replace("POLICY", policy))
    return session.plan_of(Options(suite=str(file)))


def test_a_search_may_look_at_other_images(tmp_path: Path) -> None:
    found = plan(tmp_path, f"[{SEARCH}, {{{SEARCH}: {{on: {pick.UPPER}, images: 150}}}}]")
    own, other = found.cells
    assert [cell.policy for cell in found.cells] == [SEARCH, f"{SEARCH} on {pick.UPPER}"]
    assert own.synth_id == other.synth_id
    assert len({own.policy_id, other.policy_id}) == len({own.row_id, other.row_id}) == 2
    assert {cell.control for cell in found.cells} == {"none"}
    assert own.search_access < other.search_access == "T5"
    jobs = {job.key: job for job in found.graph() if isinstance(job, PolicyJob)}
    looked = jobs[str(other.policy_id)]
    assert (looked.search.count, looked.images.source.method) == (150, pick.UPPER)
    needed = [job for job in found.graph() if isinstance(job, BatchJob) and job.key in looked.needs]
    assert sum(job.images.source.batch_size for job in needed) >= 150
    assert {job.images.source.method for job in needed} == {pick.UPPER}


def test_as_many_of_the_same_images_are_the_same_search(tmp_path: Path) -> None:
    plain, said = (plan(tmp_path, text).cells[0] for text in (f"[{SEARCH}]", f"[{{{SEARCH}: {{on: {pick.LOWER}}}}}]"))
    assert (plain.policy_id, plain.cell_id, plain.row_id) == (said.policy_id, said.cell_id, said.row_id)


def test_a_policy_in_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    bits = {"layer1.0.conv1": [2, 4], "fc": [8, 8]}
    (tmp_path / "one.json").write_text(json.dumps(bits))
    (tmp_path / "two.json").write_text(json.dumps({"method": "by hand", "bits": bits}))
    (tmp_path / "other.json").write_text(json.dumps({**bits, "fc": [8, 4]}))
    one, two, other = (
        plan(tmp_path, f"[{{file: {name}}}]").cells[0]
        for name in ("one.json", str(tmp_path / "two.json"), "other.json")
    )
    assert one.policy_id == two.policy_id != other.policy_id
    assert [cell.policy for cell in (one, two, other)] == ["one", "two", "other"]
    named = plan(tmp_path, "[{file: {path: one.json, label: mine}}]").cells[0]
    assert (named.policy, named.row_id) == ("mine", one.row_id)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("[{file: none.json}]", ["grid.policy[0]", "cannot read the policy", "none.json"]),
        ("[{file: bad.json}]", ["this is no policy", "bad.json", "layer fc"]),
        ("[{file: odd.json}]", ["no such bit-width", "fc [1, 8]"]),
        ("[{file: {path: odd.json, lable: x}}]", ["unknown key", "lable", "label"]),
        ("[{file: 3}]", ["names no file", "3"]),
        (f"[{{{SEARCH}: {{on: nosie}}}}]", ["nosie"]),
        (f"[{{{SEARCH}: {{on: {{{pick.LOWER}: {{bacth: 3}}}}}}}}]", ["on", "bacth"]),
        (f"[{{{SEARCH}: {{images: 0}}}}]", ["images", "greater than or equal to 1"]),
        (f"[{SEARCH}, {SEARCH}]", ["given twice"]),
    ],
)
def test_what_cannot_be(tmp_path: Path, policy: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text('{"fc": [8]}')
    (tmp_path / "odd.json").write_text('{"fc": [1, 8]}')
    with pytest.raises(SuiteError) as caught:
        plan(tmp_path, policy)
    assert all(word in str(caught.value) for word in words), str(caught.value)
