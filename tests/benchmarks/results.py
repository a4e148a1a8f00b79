"""docs/results.md: every shipped suite's board, claims and cost, from the measured records of the package.

    python -m tests.benchmarks.results          # writes the page; `make results`

Nothing on the page is typed by hand: title and comment come from the suite's file, the rest from its records. Each
suite stands with a digest of what it was made of (:func:`origin`), so that a test finds a page that is behind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.board.claims.judging import Verdict
from bench.board.tables.report import report
from bench.cli.board import records_of, tabled
from bench.machine import machine_key
from bench.store.files import write_atomic
from bench.store.measured import read_measured
from bench.store.records import ResultRecord

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "results.md"
SUITES = ROOT / "suites"
PACKS = SUITES / "measured"
_TITLE = re.compile(r"^title: (.*)$", re.MULTILINE)
_STANDARD = ("- ±:", "- rows of one column", "- a–", "- intervals at the level", "- differences hold")
"""Notes below tables that the page's head says once."""

HEAD = """# Results

Made by `make results` from the measured records in `suites/measured`; nothing here is typed by hand. What was found, in
words: [findings](findings.md). What intervals, letters and verdicts mean: [statistics](statistics.md).

Preset `mini`, networks of 3 to 7 MMACs at 32 pixels: what holds here need not hold on ImageNet, and the other way
round. ± is half of the 95 % interval over test images and seeds; rows of one column that share a letter are not told
apart; bold is a column's best that is no control; † was measured with an older version of its method or other weights,
is not ranked and settles no claim; ‡ images that failed the image gate. *Minutes* are CPU minutes of all seeds, an
image set counted once.

"""


@dataclass(frozen=True)
class Measured:
    """One suite's part of the page, and its line in the list at the top."""

    line: str
    part: str
    stale: bool


def shipped() -> list[str]:
    """The suites that have measured records."""
    return sorted(path.name.removesuffix(".json.xz") for path in PACKS.glob("*.json.xz"))


def origin(suite: str) -> str:
    """A short digest of the suite's file and its records."""
    content = (SUITES / f"{suite}.yaml").read_bytes() + (PACKS / f"{suite}.json.xz").read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def page() -> str:
    """The whole page."""
    records = read_measured()
    parts = {suite: measured(suite, records) for suite in shipped()}
    out = [HEAD]
    for title, stale in (("Measured with the methods as they are", False), ("Measured with older versions", True)):
        chosen = {suite: part for suite, part in parts.items() if part.stale is stale}
        if chosen:
            out.append(f"## {title}\n\n| suite | what | seeds | rows | claims | minutes | measured |\n")
            out.append("|---|---|--:|--:|---|--:|---|\n" + "".join(part.line for part in chosen.values()) + "\n")
            out += [part.part for part in chosen.values()]
    return "".join(out).rstrip("\n") + "\n"


def measured(suite: str, records: Sequence[ResultRecord]) -> Measured:
    """The part of one suite of ``records``, which hold others, too."""
    plan, own, note = records_of(suite, records, None)
    table, verdicts = tabled(own, plan)
    board = str(report(table, "md", verdicts=verdicts, records=own, details=False))
    text = (SUITES / f"{suite}.yaml").read_text(encoding="utf-8")
    found = _TITLE.search(text)
    title = found.group(1).strip("'\"") if found else suite
    stale = bool(table["stale"].any())
    seeds = sorted({record.seed for record in own})
    dates = sorted({str(record.provenance["date"])[:10] for record in own})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    machines = ", ".join(sorted({machine_key(record.provenance) for record in own}))
    minutes, peak = _spent(own)
    cells = [f"[`{suite}`](#{suite})", title, len(seeds), len(table), _counted(verdicts), f"{minutes:.0f}", when]
    line = "| " + " | ".join(map(str, cells)) + " |\n"
    head = [
        f'<a id="{suite}"></a>\n### {suite}: {title}\n<!-- {origin(suite)} -->\n',
        *_comment(text),
        f"*{len(seeds)} seed{'s' * (len(seeds) != 1)} · {len(own)} cells · {when} · machine {machines} · "
        f"{minutes:.0f} CPU minutes · peak {peak:.1f} GiB*\n",
        *([f"\n{note}.\n"] if note else []),
    ]
    return Measured(line, "".join(head) + "\n" + "".join(_folded(board)), stale)


def _comment(text: str) -> Iterator[str]:
    """The comment that a suite's file begins with, as a paragraph."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    if lines:
        yield "\n" + "\n".join(lines).replace("<", "&lt;") + "\n\n"


def _spent(records: Sequence[ResultRecord]) -> tuple[float, float]:
    """CPU minutes, each image set and each compression counted once, and the largest process in GiB."""
    once: dict[tuple[str, str], float] = {}
    peak = 0.0
    for record in records:
        for name, cost in record.costs.items():
            key = {"synthesis": record.synth_id, "compress": record.job_id}.get(name) or record.cell_id
            once[name, str(key)] = cost.cpu_seconds or 0.0
            peak = max(peak, cost.peak_memory_mib or 0.0)
    return sum(once.values()) / 60, peak / 1024


def _counted(verdicts: Sequence[Verdict]) -> str:
    """How many claims have which verdict."""
    told = [verdict.verdict for verdict in verdicts]
    return ", ".join(f"{told.count(name)} {name}" for name in dict.fromkeys(told)) or "–"


def _folded(board: str) -> Iterator[str]:
    """The board's blocks: the first table and the claims open, what lies between folded."""
    blocks = re.split(r"^(?=\*\*)", board, flags=re.MULTILINE)
    blocks = ["\n".join(line for line in block.split("\n") if not line.startswith(_STANDARD)) for block in blocks]
    blocks = [block.strip("\n") for block in blocks if block.strip()]
    claims = [block for block in blocks if block.startswith("**claims")]
    tables = [block for block in blocks if block not in claims]
    yield tables[0] + "\n\n"
    for block in claims:
        yield block + "\n\n"
    if tables[1:]:
        names = ", ".join(dict.fromkeys(_short(block) for block in tables[1:]))
        yield f"<details><summary>{names}</summary>\n\n" + "\n\n".join(tables[1:]) + "\n\n</details>\n\n"


def _short(block: str) -> str:
    """What a folded table holds: its compressor or measure, or its own name."""
    parts = block.split("\n", 1)[0].strip("*").split(" · ")
    return parts[2] if len(parts) > 2 else parts[0]


def main() -> None:
    write_atomic(PAGE, page().encode())


if __name__ == "__main__":
    main()
