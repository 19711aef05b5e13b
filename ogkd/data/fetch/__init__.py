"""Download and check the published data sets and weights (`python scripts/download.py`)."""
