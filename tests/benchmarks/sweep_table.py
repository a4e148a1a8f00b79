"""docs/networks.md, made of a sweep's lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HEAD = """# Networks tried

Made by `make sweep`: the smallest network of every architecture family of timm and of torchvision's classification
models (of the few whose names promise least, the one with the fewest parameters), random weights, its own image size
and classes. Of each is asked that

- behind quantisers that are off it computes what it did (relative difference, see
  [rewrites](methods/quantisation.md#rewrites)),
- units cover every convolution and linear layer that runs, each once, and run on their own,
- W4A4 gives finite logits,
- structured pruning removes channels, or says why it does not apply (where the sweep was started with `--prune`).

*float* is the share of weights that stays in floating point at W4A4, *no unit* the activation quantisers that no
reconstruction learns, because they are read only together with other tensors.

"""


def write_page(page: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Write the table, families in order of their names."""
    counts = Counter(line["status"] for line in lines)
    tried = len(lines) - counts["skipped"]
    said = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    text = [_HEAD, f"{len(lines)} families: {said}; {counts['ok']} of the {tried} tried pass.\n\n"]
    text.append("| network | pixels | parameters | path | difference | layers | units | no unit | float | pruning |\n")
    text.append("|---|--:|--:|---|--:|--:|--:|--:|--:|---|\n")
    text += [_row(line) for line in sorted(lines, key=lambda line: str(line["family"])) if line["status"] == "ok"]
    others = sorted((line for line in lines if line["status"] != "ok"), key=lambda line: str(line["family"]))
    if others:
        text.append("\n## Skipped, not applicable or failed\n\n| family | network | | reason |\n|---|---|---|---|\n")
        text += [f"| {x['family']} | {x['network']} | {x['status']} | {_cell(x['reason'])} |\n" for x in others]
    page.write_text("".join(text), encoding="utf-8")


def _row(line: dict[str, Any]) -> str:
    values = (
        line["network"],
        line["side"],
        f"{line['parameters'] / 1e6:.2f} M",
        line["path"].partition(":")[0],
        f"{line['difference']:.0e}",
        line["layers"],
        line["units"],
        line["loose"],
        f"{line['float_weights']:.1f} %",
        _cell(line["pruning"]),
    )
    return "| " + " | ".join(map(str, values)) + " |\n"


def _cell(text: str) -> str:
    """A text that stays in its cell."""
    return " ".join(text.replace("|", "/").split())[:160]
