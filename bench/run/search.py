"""One policy search, start to finish; what a worker runs."""

from __future__ import annotations

import tempfile

from bench import runtime
from bench.run.batch import read_images, renormalised
from bench.run.reports import cost, dated
from bench.run.worker import Bench, Recorder, Report, access_of, context_of, waiting
from bench.spec.graph import PolicyJob
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
        target = bench.model(search.target_name)
        method = bench.searches.get(search.search.method)
        method.check(search.search.params, target)
        ready = renormalised(read_images(bench, images, search.count, report), images, target)
        recorder = Recorder(report)
        # It sees the images it is given; of the data set itself nothing.
        access = access_of(bench, images.dataset_name, images, "T0")
        with tempfile.TemporaryDirectory() as scratch, runtime.measure() as spent:
            context = context_of(bench, images.dataset, access, search.generator_seed, recorder, scratch)
            policy = method.search(target, ready, search.setting, search.search.params, context)
        meta = ArtifactMeta(
            source=search.search.method,
            version=search.search.version,
            models=(search.target_name,),
            curves=recorder.curves,
            cost=cost(spent).model_dump(),
            provenance=dated(bench.facts),
        )
        bench.policies.write(search.policy_id, StoredPolicy(policy, meta))
