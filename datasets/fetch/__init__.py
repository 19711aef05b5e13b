"""Getting the published data sets and weights onto this machine (`python scripts/download.py`)."""
