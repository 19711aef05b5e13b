"""What several tests and the benchmarks stand on: checkpoints with random weights in every published format."""
