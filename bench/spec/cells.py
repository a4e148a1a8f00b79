"""A point of the grid → its cells and its policy search, with everything their identities are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.identity import cell_id, policy_id, row_id, source_identity
from bench.interfaces import Membership, Preset, Setting
from bench.spec import axes
from bench.spec.catalogue import short_name
from bench.spec.jobs import CellJob, SearchJob, SynthJob
from bench.spec.resolved import ResolvedCompressor, ResolvedSearch
from bench.spec.search_rows import SearchRow
from bench.spec.suite import SuiteSpec


@dataclass(frozen=True)
class Treatment:
    """What is done to a target: a compressor, the search that gives it its bits, what it is asked for, and the settings
    it delivers (the one asked for, mostly).  A cell of image measures has neither compressor nor setting."""

    compressor: ResolvedCompressor | None
    row: SearchRow | None
    asked: Setting | None
    variants: tuple[Setting | None, ...]

    @property
    def search(self) -> ResolvedSearch | None:
        """The search itself."""
        return self.row.search if self.row else None

    @property
    def alone(self) -> bool:
        """Whether the setting asked for is all that is delivered."""
        return self.variants == (self.asked,)


@dataclass(frozen=True)
class Point:
    """A treatment of a target with the images of one set; ``looked_at`` are those of its search."""

    suite: SuiteSpec
    preset: Preset
    dtype: str
    images: SynthJob
    looked_at: SynthJob
    target_name: str
    target_digest: str
    test_digest: str
    membership: Membership
    count: int
    treatment: Treatment

    @property
    def search_count(self) -> int:
        """How many images the search looks at."""
        row = self.treatment.row
        return self.count if row is None or row.images is None else row.images

    @property
    def policy_id(self) -> str | None:
        """Id of the policy that gives the compressor its bits; None where the setting alone does."""
        search, asked = self.treatment.search, self.treatment.asked
        if search is None or asked is None:
            return None
        return policy_id(
            search=search.method,
            version=search.version,
            params=search.described,
            synth=self.looked_at.synth_id,
            count=self.search_count,
            setting=axes.identity(asked),
            target_digest=self.target_digest,
            seed=self.images.seed,
        )


def make_search(point: Point) -> SearchJob | None:
    """The policy search of the point; None where the setting alone says the bits."""
    key, search, asked = point.policy_id, point.treatment.search, point.treatment.asked
    if key is None or search is None or asked is None:
        return None
    return SearchJob(
        policy_id=key,
        search=search,
        images=point.looked_at,
        count=point.search_count,
        target_name=point.target_name,
        target_digest=point.target_digest,
        setting=asked,
        seed=point.images.seed,
    )


def make_cell(point: Point, setting: Setting | None, not_applicable: str | None) -> CellJob:
    """The point's cell of one delivered ``setting``; of image measures where it is None."""
    job, treatment, suite = point.images, point.treatment, point.suite
    compressor, alone = treatment.compressor, treatment.alone
    label = axes.label(setting) if setting else ""
    own = _cell_id(point, setting, None if alone else treatment.asked)
    return CellJob(
        cell_id=own,
        row_id=_row_id(point, setting),
        job_id=own if alone else _cell_id(point, None, treatment.asked, kind="compression"),
        synth_id=job.synth_id,
        policy_id=point.policy_id,
        source=job.source.label,
        source_method=job.source.method,
        delivery=job.source.delivery,
        model=job.model,
        target=short_name(suite.dataset, point.target_name),
        compressor=compressor.label if compressor else "",
        compressor_method=compressor.method if compressor else "",
        policy=treatment.search.label if treatment.search else "",
        setting_label=label,
        variant="" if alone or not treatment.asked else f"{label} of {axes.label(treatment.asked)}",
        n=point.count,
        seed=job.seed,
        preset=point.preset,
        # Real images with searched bits are no upper end: what is compared is the search.
        control="none" if treatment.search else job.source.control,
        membership=point.membership,
        setting=setting,
        asked=treatment.asked,
        compressor_resolved=compressor,
        search_resolved=treatment.search,
        search_access=point.looked_at.source.access if treatment.search else "T0",
        target_name=point.target_name,
        target_digest=point.target_digest,
        dataset=suite.dataset,
        test_subset=suite.test_subset,
        test_digest=point.test_digest,
        measures=suite.measures,
        not_applicable=not_applicable,
    )


def _cell_id(point: Point, setting: Setting | None, asked: Setting | None, kind: str = "cell") -> str:
    compressor = point.treatment.compressor
    return cell_id(
        synth=point.images.synth_id,
        count=point.count,
        compressor=compressor.method if compressor else None,
        version=compressor.version if compressor else None,
        params=compressor.described if compressor else {},
        setting=axes.identity(setting) if setting else None,
        target_digest=point.target_digest,
        test_digest=point.test_digest,
        seed=point.images.seed,
        policy=point.policy_id,
        measures=point.suite.measures,
        asked=axes.identity(asked) if asked else None,
        teacher=compressor.teacher_digest if compressor else None,
        kind=kind,
    )


def _row_id(point: Point, setting: Setting | None) -> str:
    job, treatment = point.images, point.treatment
    compressor, search = treatment.compressor, treatment.search
    more: dict[str, Any] = {
        "student": job.student_digest,
        "train": job.train_digest if ":" in point.suite.dataset else None,
        "dtype": point.dtype if point.dtype != "float32" else None,
        "policy": _searched(point, search) if search else None,
        "asked": axes.identity(treatment.asked) if treatment.asked and not treatment.alone else None,
        "teacher": compressor.teacher_digest if compressor else None,
    }
    return row_id(
        source=source_identity(
            job.source.method, job.source.version, job.source.described, job.model_digests, job.source.delivery
        ),
        compressor=_described(compressor) if compressor else {},
        setting=dict(setting.values) if setting else {},
        count=point.count,
        dataset=point.suite.dataset.partition(":")[0],
        target_digest=point.target_digest,
        test_digest=point.test_digest,
        more=more,
    )


def _searched(point: Point, search: ResolvedSearch) -> dict[str, Any]:
    """The search, with its images where they are not the compressor's."""
    found = _described(search)
    if point.search_count != point.count:
        found["count"] = point.search_count
    if point.looked_at.synth_id != point.images.synth_id:
        job = point.looked_at
        found["on"] = source_identity(
            job.source.method, job.source.version, job.source.described, job.model_digests, job.source.delivery
        )
    return found


def _described(row: ResolvedCompressor | ResolvedSearch) -> dict[str, Any]:
    return {"method": row.method, "version": row.version, "params": row.described}
