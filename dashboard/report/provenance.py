"""Where a report's numbers come from: versions, fingerprints, machines, and a digest of the records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from bench.board.index.machines import machines_of
from bench.store.records import ResultRecord, record_bytes
from dashboard.report.html import table_html
from dashboard.text import html_text

_PROVENANCE = (
    *("datafree_bench", "python", "torch", "torchvision", "platform", "cpu", "instruction_sets", "aten", "onednn"),
    *("blas", "kernels", "kernel_variables", "device", "threads"),
)


def fingerprints_html(records: Sequence[ResultRecord]) -> str:
    """Versions of what measured, and the fingerprints of what was measured."""
    made = {
        "suite": sorted({f"{r.suite}@{r.suite_version}" for r in records}),
        "sources": sorted({f"{r.source_method} v{r.source_version}" for r in records}),
        "compressors": sorted(
            {f"{r.compressor_method} v{r.compressor_version}" for r in records if r.compressor_method}
        ),
        "record schema": sorted({str(r.schema_version) for r in records}),
        "protocols": sorted({f"{r.protocol_id} ({r.setting_label})" for r in records if r.protocol_id}),
        "test images": sorted({f"{r.test_digest[:16]} ({r.test_count:,})" for r in records if r.test_digest}),
        "target weights": sorted({f"{r.target} {str(r.target_digest)[:16]}" for r in records}),
        "records": [records_digest(records)],
    }
    made["machines"] = [key for key in machines_of(records) if key]
    for key in _PROVENANCE:
        made[key] = sorted({str(r.provenance[key]) for r in records if key in r.provenance})
    rows = [
        f'<tr><td class="t">{html_text(name)}</td><td class="wrap">{html_text(", ".join(values))}</td></tr>'
        for name, values in made.items()
        if values
    ]
    table = table_html(("what", "value"), (0, 1), rows)
    return f"<h3>Versions and fingerprints</h3><details><summary>What measured what</summary>{table}</details>"


def records_digest(records: Iterable[ResultRecord]) -> str:
    """SHA-256 over the records in the order of their cells: two reports with equal digests show the same records."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda r: (r.suite, r.suite_version, r.cell_id)):
        digest.update(record_bytes(record))
    return digest.hexdigest()
