"""What the records that came with the package took, in brief (``bench/cost/shipped.json.xz``), and how well each of
them is foretold by the others.

    python -m tests.benchmarks.costs            prints predicted over recorded seconds: median and spread by kind of job
    python -m tests.benchmarks.costs --write    writes the file anew from suites/measured
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.cost import calibration, evidence
from bench.cost.evidence import Spent
from bench.cost.forecast import Facts, Forecast
from bench.store.measured import measured_folder, read_pack, xz
from bench.store.scan import pack_files

PLACE = Path(evidence.__file__).parent / evidence.SHIPPED


def raw_records() -> Iterable[Mapping[str, Any]]:
    """All packed records, as plain JSON."""
    for pack in pack_files():
        yield from read_pack(measured_folder() / pack.name)


def ratios(
    rows: Sequence[Spent], known: Callable[[Spent, Spent], bool], scaled: bool
) -> dict[str, list[tuple[float, Spent]]]:
    """Kind of job → predicted over recorded seconds of each row by those others that are ``known(other, row)``; with
    ``scaled`` networks of other sizes are scaled by the reference calibration."""
    speed = calibration.reference() if scaled else None
    found: dict[str, list[tuple[float, Spent]]] = defaultdict(list)
    for row in rows:
        others = [other for other in rows if known(other, row)]
        forecast = Forecast("cpu", (), others, speed, speed, Facts(lambda name: None, 0))
        if (seconds := forecast.part(row)) is not None:
            found[row.kind].append((seconds.seconds / row.seconds, row))
    return found


WAYS: dict[str, Callable[[Spent, Spent], bool]] = {
    "the same method on other networks": lambda other, row: other.network != row.network,
    "the same row left out": lambda other, row: other != row,
    "other methods alone": lambda other, row: other.method != row.method,
}


def spread(found: Sequence[tuple[float, Spent]]) -> str:
    """Median, the middle 80 %, and the quotient of the sums."""
    values = [ratio for ratio, _ in found]
    tenths = quantiles(values, n=10) if len(values) > 1 else [values[0]] * 9
    whole = sum(ratio * row.seconds for ratio, row in found) / sum(row.seconds for _, row in found)
    return f"n {len(values):4d}  median {median(values):5.2f}  80 % {tenths[0]:.2f} to {tenths[8]:.2f}  sum {whole:.2f}"


def main(words: Sequence[str]) -> str:
    """What the command prints."""
    if "--write" in words:
        rows = evidence.as_json(evidence.of_records(raw_records()))
        PLACE.write_bytes(xz(json.dumps(rows, separators=(",", ":")).encode()))
        return f"{len(rows)} rows in {PLACE}"
    lines = []
    for name, known in WAYS.items():
        lines.append(f"{name}:")
        for kind, found in ratios(evidence.shipped(), known, scaled=True).items():
            lines.append(f"  {kind:16s} {spread(found)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]) + "\n")
