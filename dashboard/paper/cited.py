"""The BibTeX entry of what a figure shows: suite, versions, and the digest of its records."""

from __future__ import annotations

from bench.board.tables.report import tex_text
from dashboard.paper.material import Material
from dashboard.report.provenance import records_digest

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def bibtex(found: Material) -> str:
    """One ``@misc``; the same records give the same text, so its date is that of the last measuring."""
    records = found.drawn
    digest = records_digest(records)
    first, last = found.measured
    versions = sorted({str(r.provenance["datafree_bench"]) for r in records if "datafree_bench" in r.provenance})
    measured = f"measured {first} to {last}, " if last else ""
    fields = {
        "title": f"{{datafree-bench}}: {tex_text(found.title or found.suite)}",
        "author": "{datafree-bench}",
        "version": f"datafree-bench {', '.join(versions)}, suite {tex_text(found.suite)} version {found.version}",
        **({"year": last[:4], "month": _MONTHS[int(last[5:7]) - 1], "date": last} if last else {}),
        "note": f"{len(records):,} records, {measured}SHA-256 {digest}",
    }
    # months are macros of BibTeX and have no braces
    lines = [f"  {key} = {value}," if key == "month" else f"  {key} = {{{value}}}," for key, value in fields.items()]
    key = f"datafree-bench-{found.suite.replace('_', '-')}-{digest[:8]}"
    return "\n".join([f"@misc{{{key},", *lines, "}"]) + "\n"
