"""A suite's claims and their verdicts."""
