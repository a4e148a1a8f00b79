"""The papers' printed numbers (suites/published/PAPER.csv) and their join to our rows.

Columns of the files: see suites/published/README.md.  Values keep their printed precision and are not corrected.  A
printed number is ``claimed``: it stands in columns of its own and enters no mean, rank or verdict.  Most were measured
on other data and larger networks than a small suite's, so a joined value is context for orderings; a gap is formed only
where both are of the same scale.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import pandas as pd

from bench.board.tables.names import OWN, names
from bench.errors import DataError, nearest
from bench.reading import parse_json, read_json

_KEY = ["source_key", "model_key", "target_key", "compressor_key", "policy_key", "setting_key"]
UPPER = "upper control"
"""Key of the rows with training images: a method declares itself the upper control, no name is compared."""

CLAIMED = "claimed"
MEASURED = "measured"


@dataclass(frozen=True)
class Paper:
    """A paper and the scale it states; ``images`` by table, ``image_size`` (pixels a side) by data set."""

    key: str
    title: str
    short: str
    venue: str
    image_size: Mapping[str, int]
    images: Mapping[str, int]
    seeds: int | None


def _folder() -> Traversable:
    return resources.files("suites").joinpath("published")


def papers() -> tuple[str, ...]:
    """Keys of the papers whose numbers are shipped."""
    return tuple(sorted(_facts()))


def paper(key: str) -> Paper:
    """What is known of a paper.

    Raises:
        DataError: unknown paper.
    """
    known = papers()
    if key not in known:
        raise DataError("no such paper", got=key, expected=known, nearest=nearest(key, known))
    return Paper(key, **_facts()[key])


def _facts() -> dict[str, dict[str, Any]]:
    facts: dict[str, dict[str, Any]] = read_json(_folder() / "papers.json")
    return facts


def hyperparameters() -> pd.DataFrame:
    """The printed hyper-parameters, all text: paper, table, dataset, model, name, value (CoQuant, S-T2)."""
    return _read("hyperparameters")


def _read(name: str) -> pd.DataFrame:
    text = _folder().joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def published(reference: str) -> pd.DataFrame:
    """The printed numbers of one table ("mixmix/T6") or of a whole paper ("mixmix").

    Besides the file's columns (strings; ``value`` as float, ``printed`` as it stands in the paper) the frame has
    ``provenance`` (always "claimed"), ``selection`` ("last", or "best-on-test" where the network was chosen by its
    accuracy on the test set), ``verified_implementation`` (who got the number again from the authors' own code; "no"
    where nobody is known to have), ``network`` (target_model; a distillation's teacher), ``bits`` in our words
    (W4A4, S50 for a sparsity, a distillation's student) and the keys of :func:`join`: source_key, model_key,
    target_key, compressor_key, policy_key, setting_key.

    Raises:
        DataError: unknown paper or table.
    """
    key, _, number = reference.partition("/")
    table = _read(paper(key).key)
    if number:
        tables = tuple(dict.fromkeys(table["table"]))
        if number not in tables:
            raise DataError("no such table", got=reference, expected=tables, nearest=nearest(number, tables))
        table = table[table["table"] == number].reset_index(drop=True)
    table["printed"] = table["value"]
    table["value"] = table["value"].astype(float)
    table["provenance"] = CLAIMED
    table["selection"] = [names().selection_of(row) for row in table.to_dict("records")]
    table["verified_implementation"] = [names().verified_by(row) for row in table.to_dict("records")]
    return _with_keys(table)


_JOINED = {
    "value": "published_mean",
    "printed": "published_printed",
    "network": "published_target",
    "dataset": "published_dataset",
    "fp": "published_fp",
    "row": "published_row",
}


_NETWORK = ["dataset", "target_key"]


def join(table: pd.DataFrame, reference: str | pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """``table`` (from :func:`bench.board.index.frame.frame`) with the papers' number beside each row that has one.

    Rows correspond when source, network of the images, architecture of the target, compressor and setting (bits,
    sparsity, student; with searched bits the search, and the budget as the bits) do; widths, data set and image counts
    do not, which ``published_target`` and ``published_dataset`` show.  A method with other parameters than its
    preset's is the method where the suite calls it by its bare name, which makes them the suite's recipe; a zoo that a
    suite lists network by network stands for the paper's whole one.  Printed settings that have no word here (of which
    a table then has several rows of one key) join nothing, for which is meant is not ours to say.  A source that
    streams is the paper's, whose generators all do.

    Args:
        reference: "mixmix/T6", or rows from :func:`published` (filtered, say).
        metric: the printed metric to join.

    Returns:
        A copy with columns published_mean (in the metric's unit), published_printed (as it stands in the paper),
        published_target, published_dataset, published_fp (the paper's uncompressed target on that data set in percent,
        of the same table if it prints one), published_row (label of the row in the reference).
    """
    printed = published(reference) if isinstance(reference, str) else reference
    whole = pd.concat([printed, *(published(str(key)) for key in printed["paper"].unique())])
    baselines = whole[whole["metric"].isin(("fp_top1", "teacher_top1")) & (whole["w_bits"] == "32")]
    fp = baselines.drop_duplicates(_NETWORK).set_index(_NETWORK)["value"]
    chosen = printed[printed["metric"] == metric].drop_duplicates(subset=_KEY, keep=False)
    chosen = chosen.assign(row=chosen.index).join(fp.astype(float).rename("fp"), on=_NETWORK)
    ours = table.copy()
    ours["source_key"] = _method_keys(ours, "source")
    ours.loc[ours["control"].astype(str) == "upper", "source_key"] = UPPER
    searched = ours["policy"].astype(str)
    ours["policy_key"] = _column(searched.where(~searched.isin(names().uniform), ""), plain)
    ours["target_key"] = _column(ours["target"], architecture)
    ours["compressor_key"] = _method_keys(ours, "compressor")
    ours["setting_key"] = pd.Series(setting_keys(ours), index=ours.index, dtype=str)
    own = ours["model"] == ours["target"]
    ours["model_key"] = _column(ours["model"], lambda name: "" if name.startswith("zoo:") else architecture(name))
    ours.loc[own, "model_key"] = OWN
    # a named part of the zoo is another source in the papers
    zoo = ours["model"].str.startswith("zoo:") & (ours["model"] != "zoo:full") & ~_listed(ours["model"])
    ours.loc[zoo, "source_key"] += ours.loc[zoo, "model"].str.removeprefix("zoo:").map(plain)
    joined = ours.merge(chosen[[*_KEY, *_JOINED]].rename(columns=_JOINED), on=_KEY, how="left")
    joined["published_row"] = joined["published_row"].astype("Int64")
    return joined.drop(columns=_KEY)


def _listed(models: pd.Series) -> pd.Series:
    """Which of the rows' images come from a zoo that the suite lists network by network."""
    return models.astype(str).str.startswith("zoo:") & models.astype(str).str.contains("+", regex=False)


def _method_keys(table: pd.DataFrame, kind: str) -> pd.Series:
    """The rows' method with what they change of its preset, as the printed tables' keys say it: ``mixmixmix1``; the
    bare method where the suite calls it so."""
    columns = (table[name].astype(str) for name in (f"{kind}_method", f"{kind}_changes", kind))
    keys = [
        plain(method if label == method else method + _said(changed))
        for method, changed, label in zip(*columns, strict=True)
    ]
    return pd.Series(keys, index=table.index, dtype=str)


def _said(changed: str) -> str:
    """Changed parameters (JSON) as one word."""
    return "".join(f"{key}{json.dumps(value)}" for key, value in parse_json(changed).items())


def setting_keys(table: pd.DataFrame) -> list[str]:
    """What rows of the frame were asked, as the printed tables' ``setting_key`` says it."""
    return [_setting_key(row) for row in table.to_dict("records")]


def _setting_key(row: Mapping[Any, Any]) -> str:
    known = {key: value for key, value in row.items() if not pd.isna(value)}
    parts = [architecture(str(known["student"]))] if known.get("student") else []
    parts += [f"s{100 * known['sparsity']:g}".replace(".", "")] if "sparsity" in known else []
    parts += [f"w{known['weight_bits']}a{known['act_bits']}"] if "weight_bits" in known else []
    return "".join(parts)


_LIBRARY = re.compile(r"^[a-z]+:")
_SEED = re.compile(r"_s\d+$")
_OURS = re.compile(r"_([wg]\d+)$")
_LIBRARY_WIDTH = re.compile(r"(?:_([01]\d\d)[a-z]?|(?<!\d)_?x?(\d_\d))$")


def _split_width(name: str) -> tuple[str, str]:
    """(name without data set, library, weight tag, seed and width; the width's mark, empty at full width)."""
    bare = name.split("/")[-1]
    library = _LIBRARY.match(bare)
    bare = _SEED.sub("", bare[library.end() :].split(".")[0] if library else bare)
    found = (_LIBRARY_WIDTH if library else _OURS).search(bare)
    if not found:
        return bare, ""
    mark = next(group for group in found.groups() if group)
    return bare[: found.start()], "" if library and mark in ("100", "1_0") else mark


def width_mark(name: str) -> str:
    """The mark of a network that is not of full width: w10 of ``resnet18_w10``, 050 of ``timm:mobilenetv2_050``; empty
    for ``timm:mobilenetv2_100`` and ``resnet18``."""
    return _split_width(name)[1]


def architecture(name: str) -> str:
    """What a network is called without library, width and seed: resnet18 of ``resnet18_w10``, ``timm:resnet18.a1_in1k``
    and ``ResNet-18``."""
    return plain(_split_width(names().networks.get(name, name))[0])


def plain(name: str) -> str:
    """Letters and digits of a name, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _column(values: pd.Series, convert: Callable[[str], str]) -> pd.Series:
    return values.astype(str).map(convert)


def _with_keys(table: pd.DataFrame) -> pd.DataFrame:
    settings = [dict(part.split("=", 1) for part in text.split(";") if part) for text in table["setting"]]
    sources = [
        _source_keys(source, target, setting)
        for source, target, setting in zip(table["source"], table["target_model"], settings, strict=True)
    ]
    table["source_key"] = [source for source, _ in sources]
    table["model_key"] = [model for _, model in sources]
    # A distillation's one setting is its teacher; the files have the student in target_model, here it is the teacher.
    taught = pd.Series([set(setting) == {"teacher"} for setting in settings], index=table.index, dtype=bool)
    teacher = pd.Series([setting.get("teacher", "") for setting in settings], index=table.index, dtype=str)
    table["network"] = teacher.where(taught, table["target_model"])
    table["target_key"] = _column(table["network"], architecture)
    pairs = zip(table["method"], settings, strict=True)
    table["compressor_key"] = [plain(names().compressor(method, setting)) for method, setting in pairs]
    table["policy_key"] = ""
    known = (table["w_bits"] != "") & (table["a_bits"] != "")
    table["bits"] = ("W" + table["w_bits"] + "A" + table["a_bits"]).where(known, "")
    table["bits"] = table["target_model"].where(taught, table["bits"])
    sparse = [f"S{100 * float(setting['sparsity']):g}" if "sparsity" in setting else "" for setting in settings]
    table["bits"] = [left or bits for left, bits in zip(sparse, table["bits"], strict=True)]
    table["setting_key"] = _column(table["bits"], architecture)
    return _with_searches(table)


_BUDGET = re.compile(r"^(\d+)MP$")


def _with_searches(table: pd.DataFrame) -> pd.DataFrame:
    """The keys of the papers that train on the training images: a row's source is what its bits were searched on."""
    known = names()
    for paper_key, trained_by in known.trained_on_the_training_set.items():
        rows = (table["paper"] == paper_key) & (table["method"] != "")
        fixed = rows & ~table["method"].isin(known.searches)
        table.loc[fixed & (table["source"] == ""), "source_key"] = UPPER
        searched = rows & table["method"].isin(known.searches)
        # a setting other than that a rival was run again has no word here
        unsaid = table["setting"].where(table["setting"] != "reproduced=1", "")
        policy = table["method"].map(known.searches) + table["source"] + unsaid
        bits = [table[name].str.replace(_BUDGET, r"\1", regex=True) for name in ("w_bits", "a_bits")]
        table.loc[searched, "policy_key"] = policy[searched].map(plain)
        table.loc[searched, "source_key"] = UPPER
        table.loc[searched, "compressor_key"] = plain(trained_by)
        table.loc[searched, "setting_key"] = ("w" + bits[0] + "a" + bits[1])[searched]
    return table


def _source_keys(source: str, target: str, setting: Mapping[str, str]) -> tuple[str, str]:
    """(method with its options, network of the images) in our words; "own" where that network is the target."""
    found = names().source(source)
    if found.control:
        return UPPER, ""
    key = plain(f"{found.source}{names().options_of(setting)}")
    if found.model in ("", OWN):
        return key, found.model
    return key, OWN if architecture(found.model) == architecture(target) else architecture(found.model)
