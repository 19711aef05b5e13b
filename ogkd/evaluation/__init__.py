"""What finished runs hold: results, predictions, metrics and statistics. Below runs and reports; without torch."""
