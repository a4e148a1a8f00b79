"""How the papers' printed names correspond to ours, as suites/published/names.yaml says; no name stands here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import DataError
from bench.spec.origin import read_yaml
from bench.store.records import Selection

OWN = "own"
"""For the network of the images: the target itself."""

STAR = "*"
BEST_ON_TEST: Selection = "best-on-test"
"""For a printed number: of the epoch (or the run) that was best on the test set."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SourceName(_Strict):
    """What a printed source is here: our source (empty for a control, whatever it is called) and the network its images
    come from (empty: none is named; :data:`OWN`; else its printed name)."""

    source: str = ""
    model: str = ""
    control: Literal["upper"] | None = None


class Chosen(_Strict):
    """Printed numbers whose network was chosen as ``selection`` says, and how that is known."""

    paper: str
    table: str
    metric: str
    sources: list[str]
    selection: Selection
    why: str


class VerifiedCode(_Strict):
    """Printed numbers that somebody got again from the authors' own code: ``by`` whom, and ``where`` that is told."""

    paper: str
    table: str
    metric: str
    sources: list[str]
    by: str
    where: str


class Names(_Strict):
    """The file; ``options`` and ``compressors`` map a printed ``key=value`` to ours, ``networks`` and ``searches`` a
    printed name, ``trained_on_the_training_set`` a paper to what it trains with."""

    sources: dict[str, SourceName]
    options: dict[str, str]
    compressors: dict[str, str]
    networks: dict[str, str]
    searches: dict[str, str]
    uniform: list[str]
    trained_on_the_training_set: dict[str, str]
    selection: list[Chosen]
    verified_implementation: list[VerifiedCode]

    def source(self, printed: str) -> SourceName:
        """What a printed source is here; one that is not listed is looked for under its own name."""
        if printed in self.sources:
            return self.sources[printed]
        for pattern, found in self.sources.items():
            head = pattern.removesuffix(STAR)
            if found.model == STAR and printed.startswith(head):
                return found.model_copy(update={"model": printed.removeprefix(head)})
        return SourceName(source=printed)

    def options_of(self, setting: Mapping[str, str]) -> str:
        """Our words for a printed setting that departs from the source's default, in the file's order."""
        return "".join(ours for printed, ours in self.options.items() if _holds(setting, printed))

    def compressor(self, printed: str, setting: Mapping[str, str]) -> str:
        """Our compressor of a printed row, or its printed name."""
        return next((ours for item, ours in self.compressors.items() if _holds(setting, item)), printed)

    def selection_of(self, row: Mapping[Any, Any]) -> Selection:
        """How the network behind a printed number was chosen (``row``: a line of the CSV files)."""
        return next((item.selection for item in self.selection if _is_of(row, item)), "last")

    def verified_by(self, row: Mapping[Any, Any]) -> str:
        """Who got a printed number again from the authors' own code; "no" where nobody is known to have."""
        return next((item.by for item in self.verified_implementation if _is_of(row, item)), "no")


def _is_of(row: Mapping[Any, Any], item: Chosen | VerifiedCode) -> bool:
    same = (row["paper"], row["table"], row["metric"]) == (item.paper, item.table, item.metric)
    return same and row["source"] in item.sources


def _holds(setting: Mapping[str, str], printed: str) -> bool:
    key, _, value = printed.partition("=")
    return setting.get(key) == value


@cache
def names() -> Names:
    """The correspondence that came with the package.

    Raises:
        DataError: the file is damaged.
    """
    where = "suites/published/names.yaml"
    content = resources.files("suites").joinpath("published", "names.yaml").read_text(encoding="utf-8")
    return parse(content, where)


def parse(content: str, where: str) -> Names:
    """The correspondence a YAML text holds.

    Raises:
        SuiteError: no YAML.
        DataError: a key that is unknown or missing, or a value of a wrong kind.
    """
    try:
        return Names.model_validate(read_yaml(content, where)[0])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(str(first["msg"]), where=f"{where}: {place}", got=first["input"]) from error
