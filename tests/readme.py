"""README's tables of results, cut anew from the measured records that travel with the package.

    python -m tests.readme [SUITE…]     # without names every suite whose tables README has

A table stands under a line "**SUITE · … · top-1 %**", with the setting behind it where there is one, as `bench board
SUITE -f md` prints it; the next table of claims under it, before another suite's heading, is that suite's, without the
column of parts.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
HEADING = re.compile(r"^\*\*(\w+) · .* · top-1 %( · \w+)?\*\*$")
CLAIMS = "| claim | verdict |"
PARTS = "by"


def refreshed(text: str, suite: str, board: str) -> str:
    """``text`` with the tables of ``suite`` as in ``board``; one that the board lacks stays."""
    lines, told = text.split("\n"), board.split("\n")
    out: list[str] = []
    place, current = 0, ""
    while place < len(lines):
        line = lines[place]
        heading = HEADING.match(line)
        current = heading.group(1) if heading else ("" if line.startswith("###") else current)
        end = place + 1
        new: list[str] = []
        if current == suite and heading and line in told:
            end = _end(lines, place + 2)
            new = told[told.index(line) : _end(told, told.index(line) + 2)]
        elif current == suite and line.startswith(CLAIMS):
            start = next(i for i, row in enumerate(told) if row.startswith(CLAIMS))
            end, new = _end(lines, place), _without(told[start : _end(told, start)], PARTS)
        out += new or lines[place:end]
        place = end
    return "\n".join(out)


def _end(lines: list[str], place: int) -> int:
    while place < len(lines) and lines[place].startswith("|"):
        place += 1
    return place


def _without(rows: list[str], column: str) -> list[str]:
    names = [cell.strip() for cell in rows[0].strip("|").split(" | ")]
    left = [i for i, name in enumerate(names) if name != column]
    return ["| " + " | ".join(row.strip()[1:-1].split(" | ")[i].strip() for i in left) + " |" for row in rows]


def main() -> None:
    text = README.read_text(encoding="utf-8")
    known = list(dict.fromkeys(found.group(1) for line in text.split("\n") if (found := HEADING.match(line))))
    for suite in sys.argv[1:] or known:
        command = [sys.executable, "-c", "from dashboard.cli import app; app()", "board", suite, "-f", "md"]
        text = refreshed(text, suite, subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        sys.stdout.write(f"{suite}\n")
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
