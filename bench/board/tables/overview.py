"""What there is of every suite, told from where records lie; none of them is opened."""

from __future__ import annotations

from collections import Counter

from bench.board.claims.verdicts import suite_of
from bench.board.tables.layout import WIDTH, Column, aligned
from bench.store.index import Listing
from bench.store.record_store import RecordReader


def overview(records: RecordReader) -> list[str]:
    """Lines of text: a header and a line per suite, with what is done, what is not, and what the suite asks; none
    without records.

    Raises:
        StoreError: a newer schema wrote a record.
    """
    counts: dict[tuple[str, int], Counter[str]] = {}
    for (suite, version, _), found in Listing(records).counts().items():
        counts.setdefault((suite, version), Counter()).update(found)
    if not counts:
        return []
    names = sorted(counts)
    newest = dict(names)
    known = {name: suite_of(name) for name in newest}
    titles = [spec.title or "" if (spec := known[name]) is not None else "" for name, _ in names]
    left = [sum(counts[key].values()) - counts[key]["ok"] for key in names]
    shown = [name if version == newest[name] else f"{name}@{version}" for name, version in names]
    columns = [
        Column("suite", tuple(shown), right=False),
        Column("cells", tuple(str(counts[key]["ok"]) for key in names)),
        Column("not measured", tuple(str(n) if n else "" for n in left)),
        Column("what", tuple(titles), right=False),
    ]
    shown_columns = [column for column in columns if any(column.texts)]
    return [*aligned(shown_columns, WIDTH), "", "one of them: bench board SUITE"]
