"""What the figures say in words: what a part is of, and how much was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.board.tables.answers import Line, SourceTable
from bench.board.tables.signs import SIGNS
from bench.board.tables.words import BLANK
from bench.store.records import ResultRecord
from dashboard.paper.material import Material
from dashboard.text import counted


def part_title(table: SourceTable) -> str:
    """Compressor, setting and networks of a table."""
    over = table.targets[0] if len(table.targets) == 1 else f"mean over {len(table.targets)} networks"
    return " · ".join(filter(None, [table.compressor or "compressors compared", table.setting, over, table.protocol]))


def mean_and_interval(line: Line) -> str:
    """``90.02 [89.55, 90.49]``; why there is none where there is none."""
    if line.mean is None:
        return line.why or BLANK
    return f"{line.mean:.2f}" + (f" [{line.interval.low:.2f}, {line.interval.high:.2f}]" if line.interval else "")


def listed(items: Iterable[object]) -> str:
    """``a, b and c``."""
    words = [str(item) for item in items]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def measured_on(material: Material, records: Sequence[ResultRecord] | None = None) -> str:
    """Seeds, images of a set, test images, networks, data set and preset, as a caption says them."""
    own = [r for r in (material.drawn if records is None else records) if r.status == "ok"] or list(material.drawn)
    counts = sorted({record.n for record in own})
    tests = sorted({record.test_count for record in own if record.test_count})
    seeds = sorted({record.seed for record in own})
    parts = [
        f"n = {counted(len(seeds), 'seed')} ({', '.join(map(str, seeds))})",
        f"{listed(f'{n:,}' for n in counts)} images in a set" if counts else "",
        f"{listed(f'{n:,}' for n in tests)} test images" if tests else "",
        counted(len({record.target for record in own}), "network"),
    ]
    where = f"{listed(sorted({record.dataset for record in own}))}, preset {listed(sorted({r.preset for r in own}))}"
    return f"Suite {material.suite} (version {material.version}) on {where}: {', '.join(filter(None, parts))}."


def signs_used(text: str) -> list[str]:
    """A sentence for each sign of the board that ``text`` holds."""
    return [f"{sign.line}." for sign in SIGNS if sign.text in text]


def controls_named(lines: Iterable[Line]) -> str:
    """The controls among ``lines`` as a caption says them; empty without any."""
    found = {line.control: line.name for line in lines if line.control != "none"}
    kinds = [f"{found[kind]} ({kind})" for kind in ("upper", "lower") if kind in found]
    return f"Grey diamonds are controls: {listed(kinds)}." if kinds else ""
