"""What a source declares unless it says otherwise. No torch: a plan reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bench.interfaces import Control, LabelKind, MethodParams, Offer, Tier


class Defaults:
    """A method (no control) that looks at the target alone, needs its batch norms, draws its labels and makes batches
    only; see `bench.interfaces.DataSource`."""

    version: int
    summary: str
    paper: str
    needs: frozenset[str] = frozenset({"bn"})
    Params: type[MethodParams]
    presets: Mapping[str, Mapping[str, Any]]
    access: Tier = "T2a"
    control: Control = "none"
    models: Literal["none", "one", "zoo", "one+zoo"] = "one"
    label_kind: LabelKind = "assigned"
    offers: frozenset[Offer] = frozenset()
