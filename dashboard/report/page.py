"""The static report: one HTML file with boards, plots, claims and printed numbers that needs no network, no server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.board.claims.judging import Verdict
from bench.board.index.columns import COLUMNS
from bench.board.tables.comparison import Beside, beside_grid
from bench.board.tables.dynamic import dynamic_grids, dynamic_table, equal_table
from bench.board.tables.grids import image_set_grid, number
from bench.board.tables.pivots import metric_grids
from bench.board.tables.searches import GROUP, epoch_of, search_table
from bench.board.tables.width_grids import group_name, width_grids
from bench.board.tables.widths import GROUP as WIDTH_GROUP
from bench.board.tables.widths import line_table, point_table, width_lines
from bench.store.records import ResultRecord
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
from dashboard.report.findings import findings_html
from dashboard.report.frame import framed
from dashboard.report.html import claims_html, figure_html, grid_html, notes_html, ranked_html
from dashboard.report.provenance import fingerprints_html, records_digest
from dashboard.report.sample import sample, sample_of_claims, sample_of_group, sample_of_rows
from dashboard.text import html_text, row_name

_KNOWN = {column.name for column in COLUMNS}


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
        + findings_html([(part.name, part.verdicts) for part in parts])
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
        *(_cross_validation(part, name, rows) for name, rows in cross_validation_parts(compressed)),
        _trade_off(part, compressed),
        _searches(part),
        _image_bits(part),
        _widths(part),
        _ranked(part, compressed),
        _measures(part),
        _published(part.found),
        _costs(part.records),
        _repeat(part.commands),
        fingerprints_html(part.records),
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
    caption = f"Difference of each claim with its interval. {sample_of_claims(drawn)}."
    figure = figure_html(claims_forest(verdicts), caption) if drawn else ""
    return "<h3>Claims</h3>" + claims_html(verdicts) + figure


def _cross_validation(part: Part, name: str, rows: pd.DataFrame) -> str:
    """The heat map, where there are enough sources and targets for one."""
    if rows["source"].nunique() < 3 or rows["target"].nunique() < 2 or rows["top1_mean"].isna().all():
        return ""
    caption = (
        "Top-1 in percent; colour: drop from the uncompressed network. Framed: images made from the target itself. "
        f"{_behind(part, rows)}."
    )
    return f"<h3>Sources by targets, {html_text(name)}</h3>{figure_html(cross_validation(rows), caption, wide=True)}"


def _behind(part: Part, rows: pd.DataFrame) -> str:
    """Seeds and images behind rows of the part's frame."""
    return sample_of_rows(part.records, set(rows["row_id"]))


def _trade_off(part: Part, table: pd.DataFrame) -> str:
    points = trade_off_points(table)
    if len(points) < 3:
        return ""
    protocols = sorted({str(value) for value in table["protocol_id"].dropna()})
    note = f"hollow: controls; the means span {len(protocols)} protocols: {', '.join(protocols)}"
    counts = sorted({point["n"] for point in points})
    if len(counts) > 1:
        note += f"; larger markers: more images ({', '.join(f'{count:,}' for count in counts)})"
    caption = f"Mean top-1 over the targets against seconds per cell. {_behind(part, table)}."
    return "<h3>Accuracy against time</h3>" + figure_html(trade_off(table), caption) + notes_html([note])


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
        caption = f"Accuracy, BitOPs and cost of searched bits. {_behind(part, group)}."
        drawn = [figure_html(figure, caption) for figure in search_figures(group)]
        notes = ["grey: controls, hollow in the first figure; the front is of searches"]
        notes += cost_notes(group, epoch_of(group)) if len(drawn) > 1 else []
        pieces.append(f"<h4>{html_text(name)}</h4>{''.join(drawn)}{notes_html(notes)}")
    return "<h3>Searched bits</h3>" + "".join(pieces) if pieces else ""


def _widths(part: Part) -> str:
    """Networks of several bit-widths: accuracy over bit-width, one figure for each group of rows, and Delta_B."""
    lines = width_lines(_fresh(part))
    points = point_table(lines)
    pieces = []
    for key, group in points.groupby(list(WIDTH_GROUP), sort=False):
        if not group["alone"].all() and group["bits"].nunique() > 1:
            behind = sample_of_group(part.records, dict(zip(WIDTH_GROUP, key, strict=True)))
            figure = figure_html(width_figure(group), f"Top-1 over bit-width. {behind}.")
            pieces.append(f"<h4>{html_text(group_name(key))}</h4>{figure}")
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
        caption = f"Bits per image. {sample(rows.values())}."
        figures = "".join(figure_html(figure, caption) for figure in image_bits_figures(rows))
        pieces.append(f"<details><summary>{html_text(name)}</summary>{figures}</details>")
    return "<h3>Bits per image</h3>" + "".join(pieces)


def _ranked(part: Part, table: pd.DataFrame) -> str:
    pieces: list[str] = []
    for key, rows in table.groupby(["dataset", "preset", "target", "setting_label"], sort=False):
        dataset, preset, target, bits = (str(item) for item in key)
        fp = next((float(value) for value in rows["fp_top1"].dropna()), None)
        name = f"{dataset}/{target} · {bits} · uncompressed {number(fp)} % · preset {preset}"
        name = " · ".join(filter(None, (name, _behind(part, rows))))
        opened = "" if pieces else " open"
        pieces.append(f"<details{opened}><summary>{html_text(name)}</summary>{ranked_html(rows)}</details>")
    return "<h3>Leaderboards</h3>" + "".join(pieces) if pieces else ""


def _measures(part: Part) -> str:
    extra = [str(name) for name in part.table.columns if name not in _KNOWN]
    grids = metric_grids(part.table, extra)
    behind = sample(record for record in part.records if not record.compressor)
    blocks = [
        f"<details><summary>{html_text(' · '.join(filter(None, (g.title, behind))))}</summary>{grid_html(g)}</details>"
        for g in grids
    ]
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


def _footer(parts: Sequence[Part]) -> str:
    dates = sorted(str(r.provenance["date"])[:10] for part in parts for r in part.records if "date" in r.provenance)
    measured = f"Measured {dates[0]} to {dates[-1]}. " if dates else ""
    digest = records_digest(record for part in parts for record in part.records)[:16]
    return f"{html_text(measured)}Records {digest}. Published numbers are claimed by their papers, not measured here."
