"""Figures for papers: pure functions from a suite's rows to a matplotlib figure, its table and its caption."""
