"""One policy search, start to finish; what a worker runs."""

from __future__ import annotations

import tempfile

from bench import runtime
from bench.data.access import DataAccess
from bench.interfaces import ImageSet
from bench.run.apart import keeper
from bench.run.batch import read_images, renormalised
from bench.run.made import SearchedPolicy
from bench.run.reports import cost, dated, plain
from bench.run.worker import Bench, Recorder, Report, context_of, waiting
from bench.spec.graph import PolicyJob
from bench.spec.resolved import brought_by
from bench.store.meta import ArtifactMeta
from bench.store.policies import StoredPolicy


def run_search(bench: Bench, job: PolicyJob, report: Report) -> None:
    """Search the bits per layer and store them; a policy that is there already costs nothing.

    Raises:
        NotApplicable: the search cannot take this network.
        BenchError: whatever the search or the store complains of.
    """
    search, images = job.search, job.images
    with bench.policies.making(search.policy_id, waiting(report)) as wanted:
        if not wanted:
            return
        ready = renormalised(read_images(bench, images, search.count, report), images, bench.model(search.target_name))
        # It sees the images it is given; of the data set itself nothing.
        access = bench.access(images.dataset_name, images, "T0")
        work = find_policy if search.search.own else keeper.searched
        found = work(bench, job, ready, access, report)
        meta = ArtifactMeta(
            source=search.search.method,
            version=search.search.version,
            models=(search.target_name,),
            info={
                "audit": access.audit,
                "report": {**plain(found.searched.report), "on": images.name, "images": search.count},
            },
            curves=found.curves,
            cost=cost(found.spent, found.searched.forward_equivalents).model_dump(),
            provenance={**dated(bench.facts), **brought_by(search.search)},
        )
        bench.policies.write(search.policy_id, StoredPolicy(found.searched.policy, meta))


def find_policy(bench: Bench, job: PolicyJob, images: ImageSet, access: DataAccess, report: Report) -> SearchedPolicy:
    """Search in this process, on images in the target's constants.

    Raises:
        NotApplicable: the search cannot take this network.
        BenchError: whatever the search complains of.
    """
    search, target = job.search, bench.model(job.search.target_name)
    method = bench.searches.get(search.search.method)
    method.check(search.search.params, target)
    recorder = Recorder(report)
    with tempfile.TemporaryDirectory() as scratch, runtime.measure() as spent:
        context = context_of(bench, job.images.dataset, access, search.generator_seed, recorder, scratch)
        searched = method.search(target, images, search.setting, search.search.params, context)
    return SearchedPolicy(searched, recorder.curves, spent)
