"""The reports of re-runs that lie beside a submission."""

from __future__ import annotations

from pathlib import Path

from bench.errors import StoreError
from bench.store.verifications import Verification, read_verification, stem_of, verification_files


def reports_of(submission: Path, digest: str) -> tuple[list[Verification], list[StoreError]]:
    """The sound reports of this very submission, oldest first, and what is wrong with others of its name.

    One of another content (an earlier submission of this name) is passed over.
    """
    found: list[Verification] = []
    errors: list[StoreError] = []
    for path in verification_files(submission.parent):
        if not path.name.startswith(f"{stem_of(submission)}."):
            continue
        try:
            report = read_verification(path)
        except StoreError as error:
            errors.append(error)
            continue
        found += [report] if report.submission == digest else []
    return sorted(found, key=lambda report: report.made), errors
