"""What finished runs say: predictions, metrics, statistics and tables. Imports neither torch nor a model."""
