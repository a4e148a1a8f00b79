"""The papers' printed numbers (suites/published/PAPER.csv) and their join to our rows.

Columns of the files: paper, table, task, dataset, target_model, method, source, w_bits, a_bits, setting, metric, value.
Values keep their printed precision and are not corrected.  They were measured on other data and larger networks than a
small suite's, so a joined value is context for orderings, not a reference for our accuracy.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from importlib import resources

import pandas as pd

from bench.errors import DataError, nearest

_FOLDER = "published"
_KEY = ["source_key", "model_key", "target_key", "compressor_key", "bits"]
_REAL = ("training data", "training set")
UPPER = "upper control"
"""Key of the rows with training images: a method declares itself the upper control, no name is compared."""

OWN = "own"


def papers() -> tuple[str, ...]:
    """Keys of the papers whose numbers are shipped."""
    files = resources.files("suites").joinpath(_FOLDER).iterdir()
    return tuple(sorted(f.name.removesuffix(".csv") for f in files if f.name.endswith(".csv")))


def published(reference: str) -> pd.DataFrame:
    """The printed numbers of one table ("mixmix/T6") or of a whole paper ("mixmix").

    Besides the file's columns (strings; ``value`` as float, ``printed`` as it stands in the paper) the frame has the
    keys of :func:`join`: source_key, model_key, target_key, compressor_key, bits.

    Raises:
        DataError: unknown paper or table.
    """
    paper, _, number = reference.partition("/")
    known = papers()
    if paper not in known:
        raise DataError("no such paper", got=reference, expected=known, nearest=nearest(paper, known))
    text = resources.files("suites").joinpath(_FOLDER, f"{paper}.csv").read_text(encoding="utf-8")
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if number:
        tables = tuple(dict.fromkeys(table["table"]))
        if number not in tables:
            raise DataError("no such table", got=reference, expected=tables, nearest=nearest(number, tables))
        table = table[table["table"] == number].reset_index(drop=True)
    table["printed"] = table["value"]
    table["value"] = table["value"].astype(float)
    return _with_keys(table)


def join(table: pd.DataFrame, reference: str | pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """``table`` (from :func:`bench.board.frame.frame`) with the papers' number beside each row that has one.

    Rows correspond when source, network of the images, architecture of the target, compressor and bits do; widths,
    data set and image counts do not, which ``published_target`` and ``published_dataset`` show.  A printed setting of
    which a table has several (with and without data mixing, say) joins nothing, for which is meant is not ours to say.

    Args:
        reference: "mixmix/T6", or rows from :func:`published` (filtered, say).
        metric: the printed metric to join.

    Returns:
        A copy with columns published_mean (in the metric's unit), published_target, published_dataset.
    """
    printed = published(reference) if isinstance(reference, str) else reference
    printed = printed[printed["metric"] == metric].drop_duplicates(subset=_KEY, keep=False)
    names = {"value": "published_mean", "target_model": "published_target", "dataset": "published_dataset"}
    ours = table.copy()
    ours["source_key"] = _column(ours["source"], _plain)
    ours.loc[ours["control"].astype(str) == "upper", "source_key"] = UPPER
    ours["target_key"] = _column(ours["target"], architecture)
    ours["compressor_key"] = _column(ours["compressor"], _plain)
    own = ours["model"] == ours["target"]
    ours["model_key"] = _column(ours["model"], lambda name: "" if name.startswith("zoo:") else architecture(name))
    ours.loc[own, "model_key"] = OWN
    # a zoo other than the full one is another source in the papers
    zoo = ours["model"].str.startswith("zoo:") & (ours["model"] != "zoo:full")
    ours.loc[zoo, "source_key"] += ours.loc[zoo, "model"].str.removeprefix("zoo:").map(_plain)
    joined = ours.merge(printed[[*_KEY, *names]].rename(columns=names), on=_KEY, how="left", suffixes=("", "_printed"))
    return joined.drop(columns=[name for name in _KEY if name != "bits"])


def architecture(name: str) -> str:
    """What a network is called without its width and seed: resnet18 of ``resnet18_w10``, and of ``ResNet-18``."""
    return _plain(re.sub(r"_(w|g)\d+.*$", "", name))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _column(values: pd.Series, convert: Callable[[str], str]) -> pd.Series:
    return values.astype(str).map(convert)


def _with_keys(table: pd.DataFrame) -> pd.DataFrame:
    sources = [_source_keys(s, t) for s, t in zip(table["source"], table["target_model"], strict=True)]
    table["source_key"] = [source for source, _ in sources]
    table["model_key"] = [model for _, model in sources]
    table["target_key"] = _column(table["target_model"], architecture)
    table["compressor_key"] = _column(table["method"], _plain)
    known = (table["w_bits"] != "") & (table["a_bits"] != "")
    table["bits"] = ("W" + table["w_bits"] + "A" + table["a_bits"]).where(known, "")
    return table


_OF_NETWORK = re.compile(r"^(KW|DeepDream|DeepInversion|Inverted)-(.+)$")
_FROM_TARGET = ("KW", "ZeroQ", "DeepInversion", "Single-Model")


def _source_keys(source: str, target: str) -> tuple[str, str]:
    """(method, network of the images) in our words; "own" where that network is the target."""
    if source.lower() in _REAL:
        return UPPER, ""
    named = _OF_NETWORK.match(source)
    if named:
        return _plain(named[1]), OWN if architecture(named[2]) == architecture(target) else architecture(named[2])
    # the papers invert the target itself when they name no network
    return _plain(source), OWN if source in _FROM_TARGET else ""
