"""Runs: what one is (spec), how it is done (execute), the protocols that string runs together, and many of them."""
