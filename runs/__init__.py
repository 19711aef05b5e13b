"""Runs: what one is (spec), how it is done (execute), the protocols that string runs together, and many of them."""

__version__ = "0.2.0"  # also in pyproject.toml and CITATION.cff
