"""Images of another domain, where there are none of the network's own: made by a source that looks at no network."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import numpy as np

from bench.advise.network import Network
from bench.advise.proxy import by_correlation
from bench.data.splits import Bytes, Split
from bench.errors import BenchError, DataError
from bench.interfaces import DatasetSpec, SynthRequest
from bench.spec.registry import resolve_params

if TYPE_CHECKING:
    from bench.run.worker import Bench

COUNT = 1000
MOST_BYTES = 64 * 2**20
SEED = 2**31 - 1
"""Of the images; a suite's seeds are small, so no candidate calibrates on the very images it is compared on."""


def foreign_images(network: Network, bench: Bench) -> tuple[Bytes, str, str]:
    """Images uint8 [N,C,H,W], what they are, and their tier: the one whose agreement foretold accuracy best, else the
    next.

    Raises:
        BenchError: no source makes such images here.
    """
    wanted = by_correlation()
    for tier in wanted:
        for name in bench.sources.names():
            source = bench.sources.get(name)
            blank = (source.access, source.models, source.control) == (tier, "none", "none")
            if not (blank and source.label_kind == "none" and not source.offers and bench.sources.own(name)):
                continue
            try:
                return _made(name, network, bench), f"foreign images ({source.summary})", tier
            except DataError:
                continue
    raise BenchError("there are no images to compare networks on", where=network.shown, hint="Give some: --images DIR")


def _made(name: str, network: Network, bench: Bench) -> Bytes:
    from bench.data.access import DataAccess
    from bench.data.datasets import Dataset, get_dataset
    from bench.run.worker import Recorder, context_of

    source, info = bench.sources.get(name), network.info
    spec = DatasetSpec("foreign", network.classes, network.shape, info.mean, info.std)
    other = bench.settings.unrelated
    here = Dataset(spec, _none, _none, _none)
    access = DataAccess(here, source.access, get_dataset(other) if other else None)
    params = resolve_params(source, "mini", {}, name=name)
    count = min(COUNT, MOST_BYTES // int(np.prod(network.shape)))
    size, out = min(source.batch_size(params), count), list[Bytes]()
    for index in range(-(-count // size)):
        request = SynthRequest(spec, (), params, index, size, SEED)
        with tempfile.TemporaryDirectory() as scratch:
            ctx = context_of(bench, spec, access, SEED - 1 - index, Recorder(_quiet), scratch)
            images = source.synthesize_batch(request, ctx).images
        out.append((255 * here.denormalise(images)).round().byte().numpy())
    return np.concatenate(out)[:count]


def _none() -> Split:
    raise DataError("foreign images belong to no data set")


def _quiet(stage: str, step: int, total: int) -> None: ...
