"""Where a row comes from: what was read for it, its parameters, provenance and MLflow run."""

from __future__ import annotations

import streamlit as st

from bench.board.index.cells import mlflow_run
from bench.store.records import ResultRecord
from dashboard.facts import facts, listing
from dashboard.text import plain

TIERS = {
    "T0": "nothing",
    "T1": "random noise",
    "T2a": "the target network alone",
    "T2b": "other networks trained on the same data",
    "T3": "unrelated images",
    "T4": "a few unlabelled training images",
    "T5": "a few labelled training images",
    "T6": "the training set",
}


def show_access(found: ResultRecord) -> None:
    """What its source may look at, and what it read."""
    st.header("Access to data")
    st.text(f"Tier {found.access}: the source may look at {TIERS.get(found.access, 'what its name says')}.")
    if not found.audit:
        st.caption("No read of the data set was recorded.")
        return
    st.caption("Every read of the data set, as recorded; one beyond the tier is denied.")
    st.html(listing(found.audit))


def show_parameters(found: ResultRecord) -> None:
    """The methods' parameters, folded away."""
    for kind, version in (("source", found.source_version), ("compressor", found.compressor_version)):
        method = getattr(found, f"{kind}_method")
        if method:
            with st.expander(plain(f"Parameters of the {kind}")):
                st.text(f"{method}, version {version}")
                facts(getattr(found, f"{kind}_params"))


def show_provenance(found: ResultRecord) -> None:
    """Machine, versions, dates and digests."""
    st.header("Provenance")
    digests = {
        "image set": found.synth_id,
        "image digest": (found.image_digest or "")[:16],
        "target weights": found.target_digest[:16],
        "test set": (found.test_digest or "")[:16],
        "test images": f"{found.test_count:,}" if found.test_count else "",
    }
    known = {k: v for k, v in found.provenance.items() if k != "finished" or "date" not in found.provenance}
    facts({**known, **{k: v for k, v in digests.items() if v}, "schema version": found.schema_version})


def show_mlflow(found: ResultRecord) -> None:
    """Where its MLflow run is."""
    run = mlflow_run(found)
    st.header("MLflow")
    if run.server:
        st.text("If this run was tracked, it is on this server:")
        st.link_button("Open MLflow", run.server)
    else:
        st.text("If this run was tracked, this shows it:")
        st.code(run.command, language="bash", wrap_lines=True)
    st.text(f"In the experiment {run.experiment}, search for")
    st.code(run.search, language=None, wrap_lines=True)
