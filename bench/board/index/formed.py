"""The frame of all records, formed in parts: no row and no rank reaches beyond a suite's target."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.board.index.frame import rank_within
from bench.board.index.listing import FILE
from bench.board.index.machines import several_contents
from bench.board.index.parts import joined, of_cells, part_of, read_parquet, remove_others, write_parquet
from bench.board.index.rows import Versions
from bench.store.exports import with_parity
from bench.store.records import ResultRecord
from bench.store.verifications import Answers, Outcome

Progress = Callable[[str, int, int], None]
"""Told (stage in words, records done, records in all)."""

RecordOf = Callable[[str], ResultRecord | None]
"""The record at a place; None where it cannot be read, which the callee has noted."""


@dataclass(frozen=True)
class About:
    """What the rows depend on besides their records: versions of methods, stamps of the code, what re-runs found, how
    far exported networks agree (cell → percent)."""

    versions: Versions
    code: tuple[str, str, str]
    rerun: Mapping[Answers, Outcome]
    parities: Mapping[str, float]


def formed(cells: pd.DataFrame, of: RecordOf, about: About, folder: Path, progress: Progress) -> pd.DataFrame:
    """Each part from ``folder`` where its records and all it depends on are the same, else formed and kept there."""
    asked = {
        key: sorted({int(seed) for seed in part["seed"]})
        for key, part in cells.groupby(["suite", "suite_version", "preset"])
    }
    fixed = [sorted(map(str, about.versions.items())), about.code]
    remade = several_contents(zip(cells["synth_id"], cells["n"], cells["image_digest"], strict=True))
    frames, used, done = [], set(), 0
    for key, part in cells.groupby(["suite", "dataset", "target"], sort=True):
        progress("forming rows", done, len(cells))
        done += len(part)
        seeds = [[str(run), found] for run, found in asked.items() if run[0] == key[0]]
        twice = sorted(remade.intersection(part["synth_id"].dropna()))  # other parts' records may tell of it
        told = of_cells(about.rerun, set(part["cell_id"]))
        again = sorted([*answers, sorted(one.inside), sorted(one.outside)] for answers, one in told.items())
        agreed = {cell: about.parities[cell] for cell in sorted(about.parities.keys() & set(part["cell_id"]))}
        depends = (seeds, twice, again, agreed, fixed)
        facts = [[part[name].tolist() for name in FILE], *depends, rank_within(str(key[0]), {})]
        name = f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}.parquet"
        used.add(name)
        found = read_parquet(folder / name)
        if found is None:
            records = [record for record in map(of, part["place"]) if record is not None]
            found = part_of(with_parity(records, agreed), about.versions, asked, twice, told)
            if len(records) == len(part):
                write_parquet(folder / name, found)
        frames.append(found)
    progress("forming rows", len(cells), len(cells))
    remove_others(folder, used)
    return joined(frames)
