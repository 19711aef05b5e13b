"""Runs: what defines one (spec), how it is executed (execute), protocols of several runs, and plans of many."""

__version__ = "0.2.0"  # also in pyproject.toml and CITATION.cff
