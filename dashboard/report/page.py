"""The static report: one HTML file with boards, plots, claims and printed numbers that needs no network, no server."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.board.claims.judging import Verdict
from bench.board.index.columns import COLUMNS
from bench.board.index.machines import machines_of
from bench.board.tables.comparison import Beside, beside_grid
from bench.board.tables.dynamic import dynamic_grids, dynamic_table, equal_table
from bench.board.tables.grids import image_set_grid, number
from bench.board.tables.pivots import metric_grids
from bench.board.tables.searches import GROUP, epoch_of, search_table
from bench.board.tables.width_grids import group_name, width_grids
from bench.board.tables.widths import GROUP as WIDTH_GROUP
from bench.board.tables.widths import line_table, point_table, width_lines
from bench.store.records import ResultRecord, record_bytes
from dashboard.figures.searches import cost_notes
from dashboard.report.figures import (
    claims_forest,
    cross_validation,
    cross_validation_parts,
    image_bits_figures,
    search_figures,
    trade_off,
    trade_off_points,
    width_figure,
)
from dashboard.report.frame import framed
from dashboard.report.html import claims_html, figure_html, grid_html, notes_html, ranked_html, table_html
from dashboard.text import html_text, row_name

_KNOWN = {column.name for column in COLUMNS}
_PROVENANCE = (
    *("datafree_bench", "python", "torch", "torchvision", "platform", "cpu", "instruction_sets", "aten", "onednn"),
    *("blas", "kernels", "kernel_variables", "device", "threads"),
)


@dataclass(frozen=True)
class Part:
    """One suite of the report: what it is called, its frame and verdicts, the records behind them, printed numbers
    beside them, notes, and (what, command) pairs that repeat it."""

    name: str
    title: str
    reproduces: str
    table: pd.DataFrame
    verdicts: Sequence[Verdict]
    records: Sequence[ResultRecord]
    found: Beside | None
    notes: Sequence[str]
    commands: Sequence[tuple[str, str]]


def build(parts: Sequence[Part]) -> str:
    """The whole page. It depends on nothing but ``parts``: same records, same file."""
    links = "".join(f'<a href="#{html_text(part.name)}">{html_text(part.name)}</a>' for part in parts)
    body = "".join(_section(part) for part in parts)
    return framed("datafree-bench report", f"{_summary(parts)}<nav>{links}</nav>", body, _footer(parts))


def _facts(pairs: Iterable[tuple[object, str]]) -> str:
    return f'<ul class="facts">{"".join(f"<li><b>{html_text(v)}</b>{html_text(n)}</li>" for v, n in pairs)}</ul>'


def _summary(parts: Sequence[Part]) -> str:
    records = [record for part in parts for record in part.records]
    words = Counter(verdict.verdict for part in parts for verdict in part.verdicts)
    measured = sum(record.status == "ok" for record in records)
    facts = [
        (len(parts), "suite" if len(parts) == 1 else "suites"),
        (f"{measured:,} of {len(records):,}", "cells measured"),
        (words["supported"], "claims supported"),
        (words["refuted"], "refuted"),
        (words["depends"], "depends"),
        (words["open"], "open"),
        (words["two seeds"] + words["one seed"], "on fewer than three seeds"),
    ]
    return (
        '<p class="soft">Compressing neural networks without their training data: measured rows with 95 % intervals. '
        "Rows that are tied were not shown to differ; a missing cell is blank, never part of a mean.</p>"
        + _facts(facts)
    )


def _section(part: Part) -> str:
    table = part.table
    title = f"{part.name}: {part.title}" if part.title else part.name
    about = f"<p>Reproduces {html_text(part.reproduces)}.</p>" if part.reproduces else ""
    compressed = table[table["compressor"] != ""]
    pieces = [
        f'<section id="{html_text(part.name)}"><h2>{html_text(title)}</h2>{about}{notes_html(part.notes)}',
        _coverage(part),
        _claims(part.verdicts),
        *(_cross_validation(name, rows) for name, rows in cross_validation_parts(compressed)),
        _trade_off(compressed),
        _searches(part),
        _image_bits(part),
        _widths(part),
        _ranked(compressed),
        _measures(table),
        _published(part.found),
        _costs(part.records),
        _repeat(part.commands),
        _fingerprints(part),
    ]
    return "".join(pieces) + "</section>\n"


def _coverage(part: Part) -> str:
    table = part.table
    done = sum(record.status == "ok" for record in part.records)
    facts = [
        (f"{done:,} of {len(part.records):,}", "cells measured"),
        (table["source"].nunique(), "sources"),
        (table["target"].nunique(), "targets"),
        (len({record.seed for record in part.records}), "seeds"),
        (", ".join(dict.fromkeys(map(str, table["dataset"]))), "data"),
        (", ".join(dict.fromkeys(map(str, table["preset"]))), "preset"),
    ]
    return _facts(facts)


def _claims(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    drawn = [verdict for verdict in verdicts if verdict.difference is not None]
    return "<h3>Claims</h3>" + claims_html(verdicts) + (figure_html(claims_forest(verdicts)) if drawn else "")


def _cross_validation(name: str, part: pd.DataFrame) -> str:
    """The heat map, where there are enough sources and targets for one."""
    if part["source"].nunique() < 3 or part["target"].nunique() < 2 or part["top1_mean"].isna().all():
        return ""
    return (
        f"<h3>Sources by targets, {html_text(name)}</h3>"
        '<p class="soft">Top-1 in percent; colour: drop from the uncompressed network. Framed: images made from the '
        "target itself.</p>" + figure_html(cross_validation(part), wide=True)
    )


def _trade_off(table: pd.DataFrame) -> str:
    points = trade_off_points(table)
    if len(points) < 3:
        return ""
    protocols = sorted({str(value) for value in table["protocol_id"].dropna()})
    note = f"hollow: controls; the means span {len(protocols)} protocols: {', '.join(protocols)}"
    counts = sorted({point["n"] for point in points})
    if len(counts) > 1:
        note += f"; larger markers: more images ({', '.join(f'{count:,}' for count in counts)})"
    return "<h3>Accuracy against time</h3>" + figure_html(trade_off(table)) + notes_html([note])


def _fresh(part: Part) -> list[ResultRecord]:
    """The records of complete rows that are not stale."""
    table = part.table
    shown = set(table[table["top1_mean"].notna() & ~table["stale"].fillna(False).astype(bool)]["row_id"])
    return [record for record in part.records if record.row_id in shown]


def _searches(part: Part) -> str:
    """Searched bits: accuracy against bit operations, cost against gain, one pair for each group of rows."""
    found = search_table(_fresh(part))
    pieces = []
    for key, group in found.groupby(list(GROUP), sort=False):
        if len(group) < 3:
            continue
        of = dict(zip(GROUP, key, strict=True))
        name = f"{row_name(str(of['source']), str(of['model']))} → {of['target']}, {of['compressor']}, {of['n']} images"
        drawn = search_figures(group)
        notes = ["grey: controls, hollow in the first figure; the front is of searches"]
        notes += cost_notes(group, epoch_of(group)) if len(drawn) > 1 else []
        pieces.append(f"<h4>{html_text(name)}</h4>{''.join(map(figure_html, drawn))}{notes_html(notes)}")
    return "<h3>Searched bits</h3>" + "".join(pieces) if pieces else ""


def _widths(part: Part) -> str:
    """Networks of several bit-widths: accuracy over bit-width, one figure for each group of rows, and Delta_B."""
    lines = width_lines(_fresh(part))
    points = point_table(lines)
    pieces = []
    for key, group in points.groupby(list(WIDTH_GROUP), sort=False):
        if not group["alone"].all() and group["bits"].nunique() > 1:
            pieces.append(f"<h4>{html_text(group_name(key))}</h4>{figure_html(width_figure(group))}")
    for grid in width_grids(line_table(lines)):
        pieces.append(f"<h4>{html_text(grid.title)}</h4>{grid_html(grid)}")
    return "<h3>Accuracy over bit-width</h3>" + "".join(pieces) if pieces else ""


def _image_bits(part: Part) -> str:
    """What each image takes where bits depend on it: tables, and per source and target the rows' histograms, bits
    against difficulty, and the curves of their trainings, of each row's lowest seed."""
    records = _fresh(part)
    if all(record.image_bits is None for record in records):
        return ""
    grids = dynamic_grids(dynamic_table(records), equal_table(records))
    groups: dict[str, dict[str, ResultRecord]] = {}
    for record in sorted(records, key=lambda r: r.seed):
        if record.image_bits is None or record.status != "ok":
            continue
        name = f"{row_name(record.source, record.model)} → {record.target}, {record.n} images, preset {record.preset}"
        row = f"{record.compressor} {record.setting_label}"
        groups.setdefault(name, {}).setdefault(row, record)
    pieces = [f"<h4>{html_text(grid.title)}</h4>{grid_html(grid)}" for grid in grids]
    for name, rows in groups.items():
        seeds = {record.seed for record in rows.values()}
        if len(seeds) == 1:
            name += f" · seed {seeds.pop()}"
        else:  # a row lacks the lowest seed of the others
            rows = {f"{row} · seed {record.seed}": record for row, record in rows.items()}
        figures = "".join(map(figure_html, image_bits_figures(rows)))
        pieces.append(f"<details><summary>{html_text(name)}</summary>{figures}</details>")
    return "<h3>Bits per image</h3>" + "".join(pieces)


def _ranked(table: pd.DataFrame) -> str:
    pieces: list[str] = []
    for key, part in table.groupby(["dataset", "preset", "target", "setting_label"], sort=False):
        dataset, preset, target, bits = (str(item) for item in key)
        fp = next((float(value) for value in part["fp_top1"].dropna()), None)
        name = f"{dataset}/{target} · {bits} · uncompressed {number(fp)} % · preset {preset}"
        opened = "" if pieces else " open"
        pieces.append(f"<details{opened}><summary>{html_text(name)}</summary>{ranked_html(part)}</details>")
    return "<h3>Leaderboards</h3>" + "".join(pieces) if pieces else ""


def _measures(table: pd.DataFrame) -> str:
    extra = [str(name) for name in table.columns if name not in _KNOWN]
    grids = metric_grids(table, extra)
    blocks = [f"<details><summary>{html_text(g.title)}</summary>{grid_html(g)}</details>" for g in grids]
    return "<h3>Image measures</h3>" + "".join(blocks) if blocks else ""


def _published(found: Beside | None) -> str:
    if found is None:
        return ""
    grid = beside_grid(found)
    name = f"{len(grid.rows)} printed numbers of {found.reference}"
    table = f"<details><summary>{html_text(name)}</summary>{grid_html(grid)}</details>"
    return "<h3>Measured beside published</h3>" + notes_html(found.notes) + table


def _costs(records: Sequence[ResultRecord]) -> str:
    grid = image_set_grid(records)
    if not grid.rows:
        return ""
    name = f"{len(grid.rows)} kinds of image set"
    return f"<h3>Cost of the images</h3><details><summary>{name}</summary>{grid_html(grid)}</details>"


def _repeat(commands: Sequence[tuple[str, str]]) -> str:
    lines = "\n".join(f"{command:<58}  # {what}" for what, command in commands)
    return f"<h3>How to repeat it</h3><pre><code>{html_text(lines)}</code></pre>"


def _fingerprints(part: Part) -> str:
    """Versions of what measured, and the fingerprints of what was measured."""
    records = part.records
    made = {
        "suite": sorted({f"{r.suite}@{r.suite_version}" for r in records}),
        "sources": sorted({f"{r.source_method} v{r.source_version}" for r in records}),
        "compressors": sorted(
            {f"{r.compressor_method} v{r.compressor_version}" for r in records if r.compressor_method}
        ),
        "record schema": sorted({str(r.schema_version) for r in records}),
        "protocols": sorted({f"{r.protocol_id} ({r.setting_label})" for r in records if r.protocol_id}),
        "test images": sorted({f"{r.test_digest[:16]} ({r.test_count:,})" for r in records if r.test_digest}),
        "target weights": sorted({f"{r.target} {str(r.target_digest)[:16]}" for r in records}),
        "records": [records_digest(records)],
    }
    made["machines"] = [key for key in machines_of(records) if key]
    for key in _PROVENANCE:
        made[key] = sorted({str(r.provenance[key]) for r in records if key in r.provenance})
    rows = [
        f'<tr><td class="t">{html_text(name)}</td><td class="wrap">{html_text(", ".join(values))}</td></tr>'
        for name, values in made.items()
        if values
    ]
    table = table_html(("", "value"), (0, 1), rows)
    return f"<h3>Versions and fingerprints</h3><details><summary>What measured what</summary>{table}</details>"


def records_digest(records: Iterable[ResultRecord]) -> str:
    """SHA-256 over the records in the order of their cells: two reports with equal digests show the same records."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda r: (r.suite, r.suite_version, r.cell_id)):
        digest.update(record_bytes(record))
    return digest.hexdigest()


def _footer(parts: Sequence[Part]) -> str:
    dates = sorted(str(r.provenance["date"])[:10] for part in parts for r in part.records if "date" in r.provenance)
    measured = f"Measured {dates[0]} to {dates[-1]}. " if dates else ""
    digest = records_digest(record for part in parts for record in part.records)[:16]
    return f"{html_text(measured)}Records {digest}. Published numbers are claimed by their papers, not measured here."
