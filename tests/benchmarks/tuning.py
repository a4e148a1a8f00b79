"""How the presets of the sources were chosen: the tables and curves of the suites in suites/tuning/.

``make tuning`` runs these suites into one store (it resumes; about two CPU hours) and writes docs/methods/tuning.md
with its curves.  Only zoo networks and held-out training images are used.  Never part of the tests.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.spec.catalogue import ShippedCatalogue
from bench.spec.suite import SuiteSpec, load_suite
from bench.store.artifacts import ArtifactStore
from bench.store.record_store import RecordStore
from bench.store.records import ResultRecord

SUITES = Path("suites/tuning")
PAGE = Path("docs/methods/tuning.md")
FIGURE = "tuning.svg"

_HEAD = """# How the presets of the sources were chosen

Made by `make tuning` from the suites in `suites/tuning/`. No target network and no test image was looked at: the
networks are two of the zoo, VGG-8 and a MobileNetV2 (noise lies nearest to the statistics of the one and farthest from
those of the other), the images that measure are 2,000 training images that no source may draw from
(`fashion_mnist+held_out`). Each set of 128 images is made from the network it calibrates (mixed ones: from the other
eight networks of the zoo), BRECQ, W2A4.

One rule for all, one switch after another, the best value kept, at most twelve configurations a source:

1. kappa, the weight of the statistics relative to the network ([kappa](sources.md#kappa)), where there is one;
2. the views: none, half as strong, as the paper has them;
3. iterations: 400, then more while the mean top-1 gains half a point or the batch-norm loss falls by a fifth.

Among values within half a point of the best mean top-1, the one whose images pass the image gate (own top-1 at least
90 %, own batch-norm loss at most half of noise's), then the cheaper, then the one nearer to the paper is taken.
*Passes* are multiply-accumulates of one synthesis for both networks over those of one image through them; *own* is what
the images' networks read of them: top-1 of the labels, batch-norm loss over noise's.

"""


@dataclass(frozen=True)
class Line:
    """One configuration: its records by target."""

    label: str
    records: Mapping[str, ResultRecord]
    chosen: bool

    @property
    def mean(self) -> float:
        """Mean top-1 over the targets, in percent."""
        return sum(self.top1(name) for name in self.records) / len(self.records)

    def top1(self, target: str) -> float:
        """Top-1 on the held-out images, in percent; nan where the cell did not end well."""
        value = self.records[target].metrics.get("top1")
        return math.nan if value is None else float(value)


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
            command = ["bench", "run", str(file), "--store", str(asked.store), "--workers", str(asked.workers)]
            subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)
    suites = [load_suite(file) for file in sorted(SUITES.glob("*.yaml"))]
    write(suites, asked.store)
    return 0


def write(suites: Iterable[SuiteSpec], store: Path) -> None:
    """The page and its figure, from the records of ``store``."""
    text, panels = [_HEAD], []
    for suite in suites:
        lines = lines_of(suite, store)
        if not lines:
            continue
        name = suite.suite.removeprefix("tuning_")
        text.append(f"## {name}\n\n{table(lines)}\n")
        chosen = next((line for line in lines if line.chosen), None)
        if chosen is not None:
            panels.append((name, curves(chosen, store)))
    text.append(
        f"## Curves\n\nLoss of the chosen configurations over their iterations, first value 1.\n\n![]({FIGURE})\n"
    )
    PAGE.write_text("\n".join(text), encoding="utf-8")
    PAGE.with_name(FIGURE).write_text(figure(panels), encoding="utf-8")


def lines_of(suite: SuiteSpec, store: Path) -> list[Line]:
    """The suite's configurations that are measured on all its targets, in the suite's order."""
    catalogue = ShippedCatalogue()
    found: dict[str, dict[str, ResultRecord]] = {}
    for record in RecordStore(store).all(suite.suite, suite.version):
        if record.seed == suite.seeds[0]:
            found.setdefault(record.source, {})[record.target] = record
    lines = []
    for label, records in found.items():
        if set(records) >= set(suite.grid.target):
            first = next(iter(records.values()))
            method = catalogue.sources.get(first.source_method)
            params = method.Params(**method.presets["mini"]).model_dump(mode="json")
            same = {k: v for k, v in first.source_params.items() if k not in _FREE}
            lines.append(Line(label, records, same == {k: v for k, v in params.items() if k not in _FREE}))
    return lines


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
            *(f"{line.top1(name):.2f}" for name in targets),
            f"{line.mean:.2f}",
            *(_own(line.records[name]) for name in targets),
            _passes(line.records.values()),
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
    costs = [record.costs.get("synthesis") for record in records]
    spent = sum(cost.forward_equivalents or 0.0 for cost in costs if cost is not None)
    return f"{spent:,.0f}" if spent else "–"


def curves(line: Line, store: Path) -> list[list[tuple[float, float]]]:
    """The loss of each target's synthesis over its iterations, relative to the first value."""
    found = []
    for record in line.records.values():
        if record.synth_id is None:
            continue
        logged = ArtifactStore(store).meta(record.synth_id, 0).curves.get("loss", ())
        points = [(float(step), float(value)) for step, value in logged]
        if points and points[0][1]:
            found.append([(step, value / points[0][1]) for step, value in points])
    return found


WIDTH, HEIGHT, GAP, COLUMNS = 200, 120, 30, 4
COLOURS = ("#1b6ca8", "#c8553d")


def figure(panels: Sequence[tuple[str, list[list[tuple[float, float]]]]]) -> str:
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
