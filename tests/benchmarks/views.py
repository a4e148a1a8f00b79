"""Batch-norm loss of real images under each source's own views, on every shipped network: can the statistics be met?

``make views`` writes docs/zoo.md, with the manifests.  ``--before FOLDER`` sets other weights of the same networks
beside the shipped ones.  Never part of the tests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from bench.data.datasets import get_dataset, labels_of
from bench.zoo import checkpoints
from bench.zoo.checkpoints import freeze, load_into
from bench.zoo.recipe import build_entry
from bench.zoo.table import TABLE, Entry
from methods.sources._augment import Augment, PixelSpace, mix_data
from methods.sources._bn_taps import pooled, tapped
from methods.sources._losses import l2norm
from methods.sources._single import SingleSource
from tests import pick

DATASET = "fashion_mnist"
IMAGES, BATCH, DRAWS = 512, 128, 8

View = Callable[[Tensor, Generator], Tensor]

_HEAD = """# The zoo's networks, and what they make of views

Made by `make views`: {images} training images in batches of {batch}, each batch seen {draws} times.

Trained on 60,000 images in two cycles: as the images are, then on views of them (`bench/zoo/train.py`,
`bench/zoo/augment.py`). *First cycle* is the top-1 the network had before the second.

"""

_LOSS = """
## Batch-norm loss of real images under each source's views

Batch-norm loss (`l2norm`, of the batch) over that of the images as they are, and top-1 on the same batches in percent:
at 1.5 or below, what the source asks of its images can be met.

"""


def views() -> dict[str, View]:
    """What each source with views does to a batch at its preset `mini`."""
    space = PixelSpace.of(get_dataset(DATASET).spec)
    found: dict[str, View] = {"as they are": lambda x, _: x}
    for name, method in pick.methods("sources").items():
        params: Any = method.Params(**method.presets.get("mini", {}))
        if isinstance(method, SingleSource):
            augment = method.augment(params, space)
            if augment.kinds():
                found[name] = augment
        elif {"jitter", "box"} <= set(type(params).model_fields):
            augment = Augment(space, roll=params.roll, flip=params.flip, jitter=params.jitter)
            found |= {f"{name}, pairs unmixed": augment, name: partial(_mixed, augment, params)}
    return found


def _mixed(augment: Augment, params: Any, images: Tensor, generator: Generator) -> Tensor:
    return mix_data(augment(images, generator), generator, params.box, per_sample=params.per_sample).images


def main(argv: list[str] | None = None) -> int:
    """Measure every network; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="other weights of the same networks")
    parser.add_argument("--page", type=Path, help="default: docs/zoo.md; with --only nothing is written")
    parser.add_argument("--only", default="", help="names, separated by commas")
    asked = parser.parse_args(argv)
    only = [name for name in asked.only.split(",") if name]
    there = checkpoints.weights_folder(DATASET)
    shown = [item for item in TABLE if (not only or item.name in only) and (there / f"{item.name}.json").exists()]
    folders = {"before": asked.before, "now": there}
    lines: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for item in shown:
        for word, folder in folders.items():
            if folder is not None:
                lines[item.name, word] = measured(item, folder)
                said = ", ".join(f"{name} {b:.1f} {t:.0f} %" for name, (b, t) in lines[item.name, word].items())
                sys.stderr.write(f"{item.name} {word}: {said}\n")
    if (file := asked.page or (None if only else Path("docs/zoo.md"))) is not None:
        file.write_text(page(shown, folders["now"], lines), encoding="utf-8")
    return 0


@torch.no_grad()
def measured(item: Entry, folder: Path) -> dict[str, tuple[float, float]]:
    """Batch-norm loss and top-1 in percent under each view."""
    data = get_dataset(DATASET)
    module: nn.Module = build_entry(item, data)
    load_into(module, folder / f"{item.name}.safetensors", checkpoints.manifest(folder, item.name)["sha256"])
    taps = tapped(freeze(module), device="cpu")
    split = data.train()
    picks = torch.randperm(len(split.labels), generator=Generator().manual_seed(0))[:IMAGES]
    images, labels = data.normalised_at(split, picks), labels_of(split)[picks]
    found = {}
    for name, view in views().items():
        generator = Generator().manual_seed(1)
        losses, right = [], 0
        for _ in range(DRAWS):
            for part, wanted in zip(images.split(BATCH), labels.split(BATCH), strict=True):
                logits, stats = taps(view(part, generator))
                losses.append(float(l2norm(pooled(stats))))
                right += int((logits.argmax(1) == wanted).sum())
        found[name] = (sum(losses) / len(losses), 100 * right / (DRAWS * IMAGES))
    return found


def page(shown: list[Entry], folder: Path, lines: Mapping[tuple[str, str], Mapping[str, tuple[float, float]]]) -> str:
    """The page of docs/."""
    text = [_HEAD.format(images=IMAGES, batch=BATCH, draws=DRAWS)]
    text.append("| network | role | parameters | MMACs | first cycle | top-1 | seconds, both cycles |\n")
    text.append("|---|---|--:|--:|--:|--:|--:|\n")
    for item in shown:
        fact = checkpoints.manifest(folder, item.name)
        first = fact.get("first_cycle", {})
        cells = (
            item.name,
            item.role,
            f"{fact['parameters']:,}",
            f"{fact['macs'] / 1e6:.2f}",
            f"{first['top1']:.2f}" if first else "–",
            f"{fact['top1']:.2f}",
            f"{fact['seconds'] + first.get('seconds', 0):.0f}",
        )
        text.append(f"| {' | '.join(cells)} |\n")
    names = list(views())[1:]
    text.append(_LOSS)
    text.append(f"| network | weights | as they are | {' | '.join(names)} |\n|---|---|--:|{'--:|' * len(names)}\n")
    for (name, word), line in lines.items():
        clean = line["as they are"]
        cells = [f"{line[view][0] / clean[0]:.2f}, {line[view][1]:.0f} %" for view in names]
        text.append(f"| {name} | {word} | {clean[0]:.1f}, {clean[1]:.0f} % | {' | '.join(cells)} |\n")
    now = [
        [line[view][0] / line["as they are"][0] for view in names] for (_, word), line in lines.items() if word == "now"
    ]
    means = [f"**{sum(column) / len(column):.2f}**" for column in zip(*now, strict=True)]
    text.append(f"| **mean, now** | | | {' | '.join(means)} |\n")
    return "".join(text)


if __name__ == "__main__":
    sys.exit(main())
