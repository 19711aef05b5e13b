"""Results of finished runs: predictions, metrics, statistics and tables. Imports neither torch nor any model."""
