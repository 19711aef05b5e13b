"""Ways to go through many runs; each needs nothing but the jobs of a plan."""
