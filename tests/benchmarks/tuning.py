"""How the presets were chosen: the tables and curves of the suites in suites/tuning/.

``make tuning`` runs these suites into one store (it resumes) and writes docs/methods/tuning.md with its curves. Only
zoo networks and held-out training images are used. Never part of the tests.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bench.run.session import Options, plan_of
from bench.spec.catalogue import ShippedCatalogue
from bench.spec.plan import Plan
from bench.store.artifacts import ArtifactStore
from bench.store.record_store import RecordReader
from bench.store.records import ResultRecord, StageCost

SUITES = Path("suites/tuning")
PAGE = Path("docs/methods/tuning.md")
FIGURE = "tuning.svg"
KNOWN = PAGE.with_suffix(".json")
"""Tables and curves of each suite as they were measured: a store holds those of its own runs alone."""

_HEAD = """# How the presets of the sources were chosen

Made by `make tuning` from the suites in `suites/tuning/`. No target network and no test image was looked at: the
networks are two of the zoo, VGG-8 and a MobileNetV2 (noise lies nearest to the statistics of the one and farthest from
those of the other), the images that measure are 2,000 training images that no source may draw from
(`fashion_mnist+held_out`). Each set of images (128, for `brecq` 256) is made from the network it calibrates (mixed
ones: from the other eight networks of the zoo), BRECQ, W2A4.

One rule for all, one switch after another, the best value kept, at most twelve configurations a source:

1. kappa, the weight of the statistics relative to the network ([kappa](sources.md#kappa)), where there is one, or the
   form of the statistics where it fails at every kappa;
2. the views: none, half as strong, as the paper has them;
3. iterations: more, up to 1,000, where the mean top-1 gains half a point. Of the sources that invert, `kw` alone does,
   by 0.65 at one seed; `mini` keeps 400 all the same, since 2.5 times the cost needs more than one seed to speak for
   it, and `thorough` has 1,000.

Eligible are values whose images pass the image gate (own top-1 at least 90 %, own batch-norm loss at most half of
noise's; ‡ marks the others) and whose views leave real images at most 1.5 times their own batch-norm loss ([the
zoo](../zoo.md)). Among those within half a point of the best mean top-1 the cheapest is taken, then the one nearest to
the paper, then (kappa, of which no paper speaks) the best. Where no value is eligible (`deepdream`, `dsg`) the same
holds for all of them, and the images stay flagged. One seed: differences below a point or two are chance, so the rule
settles what is far apart and keeps the paper's value elsewhere. Bold is what the preset `mini` has.

*Passes* are multiply-accumulates of one synthesis for both networks over those of one image through them; *own* is what
the images' networks read of them: top-1 of the labels, batch-norm loss over noise's.

"""


_CURVES = """## Curves

Loss of the chosen configurations over their iterations, first value 1; VGG-8 blue, MobileNetV2 red, which covers the
other where both share a set.
"""


@dataclass(frozen=True)
class Line:
    """One configuration: its records by target, one for each seed and setting."""

    label: str
    records: Mapping[str, Sequence[ResultRecord]]
    chosen: bool

    @property
    def compared(self) -> bool:
        """Whether it is more than a control that stands beside."""
        first = next(iter(self.records.values()))[0]
        return first.control == "none" or self.label == first.compressor

    @property
    def mean(self) -> float:
        """Mean top-1 over the targets, in percent."""
        return mean(self.top1(name) for name in self.records)

    def top1(self, target: str) -> float:
        """Top-1 on the held-out images, in percent, mean over seeds; nan where a cell did not end well."""
        return mean(record.metrics.get("top1", math.nan) for record in self.records[target])

    def shown(self, target: str) -> str:
        """Top-1, and its standard deviation over the seeds where there are several."""
        found = [record.metrics.get("top1", math.nan) for record in self.records[target]]
        return f"{mean(found):.2f}" + (f" ± {stdev(found):.2f}" if len(found) > 1 else "")


def main(argv: list[str] | None = None) -> int:
    """Run what is missing; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(".bench/tuning"))
    parser.add_argument("--only", default="", help="sources, separated by commas")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--page-only", action="store_true", help="write the page from what is there")
    asked = parser.parse_args(argv)
    only = [name for name in asked.only.split(",") if name]
    files = [file for file in sorted(SUITES.glob("*.yaml")) if not only or file.stem in only]
    if not asked.page_only:
        for file in files:
            command = [sys.executable, "-c", "from dashboard.cli import main; main()", "run", str(file)]
            subprocess.run([*command, "--store", str(asked.store), "--workers", str(asked.workers)], check=True)
    write(sorted(SUITES.glob("*.yaml")), asked.store)
    return 0


def write(files: Iterable[Path], store: Path) -> None:
    """The page and its figure: what ``store`` holds, and what was known of the other suites."""
    known: dict[str, Any] = json.loads(KNOWN.read_text(encoding="utf-8")) if KNOWN.exists() else {}
    files = tuple(files)
    for file in files:
        plan = plan_of(Options(str(file)))
        sections, panels = [], []
        for bits in dict.fromkeys(cell.setting_label for cell in plan.cells):
            lines = lines_of(plan, store, bits)
            if sum(line.compared for line in lines) < 2:
                continue  # nothing to choose from yet
            more = f", {bits}, {len(plan.suite.seeds)} seeds" if len(plan.suite.seeds) > 1 else ""
            sections.append(f"## {file.stem}{more}\n\n{table(lines)}\n{spent(lines)}")
            if len(plan.suite.seeds) == 1:  # a suite of several seeds compares what the others chose
                panels += [curve for line in lines if line.chosen for curve in curves(line, store)]
        if sections:
            known[file.stem] = {"sections": sections, "curves": panels}
    found = [(file.stem, known[file.stem]) for file in files if file.stem in known]
    text = [section for _, entry in found for section in (*entry["sections"], "")]
    PAGE.write_text("\n".join([_HEAD, *text, _CURVES, f"![]({FIGURE})\n"]), encoding="utf-8")
    PAGE.with_name(FIGURE).write_text(
        figure([(name, entry["curves"]) for name, entry in found if entry["curves"]]), encoding="utf-8"
    )
    lines_of_json = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(known.items()))
    KNOWN.write_text("{\n" + ",\n".join(lines_of_json) + "\n}\n", encoding="utf-8")


def lines_of(plan: Plan, store: Path, bits: str) -> list[Line]:
    """The suite's configurations at ``bits`` of which every cell is measured, in the suite's order."""
    reader = RecordReader(store)
    found: dict[str, dict[str, list[ResultRecord | None]]] = {}
    for cell in plan.cells:
        if cell.setting_label == bits:
            record = reader.get(plan.suite.suite, plan.suite.version, cell.cell_id)
            label = cell.compressor if len(plan.suite.grid.compressor) > 1 else cell.source
            found.setdefault(label, {}).setdefault(cell.target, []).append(record)
    lines = []
    for label, records in found.items():
        done = {target: [r for r in some if r is not None and r.status == "ok"] for target, some in records.items()}
        if all(len(done[target]) == len(some) for target, some in records.items()):
            line = Line(label, done, chosen=False)
            lines.append(replace(line, chosen=line.compared and _is_preset(next(iter(done.values()))[0])))
    return lines


def _is_preset(record: ResultRecord) -> bool:
    """Whether the record's source, or its compressor where the source is a control, ran with its preset's
    parameters."""
    catalogue = ShippedCatalogue()
    method, asked = catalogue.sources.get(record.source_method), record.source_params
    if record.control != "none":
        method, asked = catalogue.compressors.get(record.compressor_method), record.compressor_params
    params = method.Params(**method.presets["mini"]).model_dump(mode="json")
    return all(asked[name] == value for name, value in params.items() if name not in _FREE)


_FREE = ("images",)
"""Parameters that say how many images are made, not how."""


def table(lines: Sequence[Line]) -> str:
    """Markdown of the configurations."""
    targets = list(lines[0].records)
    head = ["configuration", *targets, "mean", *(f"own, {name}" for name in targets), "passes"]
    rows = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    for line in lines:
        cells = [
            f"**{line.label}**" if line.chosen else line.label,
            *(line.shown(name) for name in targets),
            f"{line.mean:.2f}",
            *(_own(line.records[name][0]) for name in targets),
            _passes(records[0] for records in line.records.values()),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _own(record: ResultRecord) -> str:
    gate = record.image_gate
    if gate is None:
        return "–"
    top1 = "–" if gate.top1 is None else f"{gate.top1:.0f} %"
    share = "–" if gate.bn_share is None else f"{gate.bn_share:.2f}"
    return f"{top1}, {share}{' ‡' if gate.flagged else ''}"


def _passes(records: Iterable[ResultRecord]) -> str:
    found = sum(cost.forward_equivalents for cost in _syntheses(records))
    return f"{found:,.0f}" if found else "–"


def _syntheses(records: Iterable[ResultRecord]) -> list[StageCost]:
    """What each image set cost, those that serve several networks once."""
    return list({r.synth_id: r.costs["synthesis"] for r in records if "synthesis" in r.costs}.values())


def spent(lines: Sequence[Line]) -> str:
    """What choosing took: passes of the syntheses, each once, and CPU minutes of everything."""
    records = [record for line in lines for some in line.records.values() for record in some]
    made = _syntheses(records)
    others = [cost for record in records for stage, cost in record.costs.items() if stage != "synthesis"]
    passes, minutes = sum(c.forward_equivalents for c in made), sum(c.cpu_seconds for c in (*made, *others)) / 60
    return f"Spent on all of these: {passes:,.0f} passes, {minutes:.0f} CPU minutes.\n"


def curves(line: Line, store: Path) -> list[list[tuple[float, float]]]:
    """The loss of each target's synthesis over its iterations, relative to the first value."""
    found = []
    for records in line.records.values():
        if (synth := records[0].synth_id) is None:
            continue
        logged = ArtifactStore(store).meta(synth, 0).curves.get("loss", ())
        points = [(float(step), float(value)) for step, value in logged]
        if points and points[0][1]:
            found.append([(step, value / points[0][1]) for step, value in points])
    return found


WIDTH, HEIGHT, GAP, COLUMNS = 200, 120, 30, 4
COLOURS = ("#1b6ca8", "#c8553d")


def figure(panels: Sequence[tuple[str, Sequence[Sequence[tuple[float, float]]]]]) -> str:
    """Small multiples as SVG: one panel a source, one line a network."""
    rows = -(-len(panels) // COLUMNS)
    size = (COLUMNS * (WIDTH + GAP) + GAP, rows * (HEIGHT + 2 * GAP))
    text = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" font-family="sans-serif">']
    text.append('<rect width="100%" height="100%" fill="white"/>')
    for index, (name, lines) in enumerate(panels):
        left = GAP + index % COLUMNS * (WIDTH + GAP)
        top = GAP + index // COLUMNS * (HEIGHT + 2 * GAP)
        text.append(f'<text x="{left}" y="{top - 6}" font-size="12">{name}</text>')
        text.append(f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>')
        values = [value for line in lines for _, value in line]
        low, high = min([0.0, *values]), max([1.0, *values])
        for colour, line in zip(COLOURS, lines, strict=False):
            last = max(step for step, _ in line) or 1.0
            places = (
                f"{left + WIDTH * step / last:.1f},{top + HEIGHT * (high - value) / (high - low):.1f}"
                for step, value in line
            )
            text.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            text.append(f'<text x="{left + WIDTH - 40}" y="{top + HEIGHT + 14}" font-size="10">{last:.0f}</text>')
        text.append(f'<text x="{left - 22}" y="{top + 10}" font-size="10">{high:.1f}</text>')
        text.append(f'<text x="{left - 22}" y="{top + HEIGHT}" font-size="10">{low:.1f}</text>')
    return "\n".join([*text, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
