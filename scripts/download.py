"""Fetch and check the published data sets and BiomedCLIP's weights; `python scripts/download.py --help` says how."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ogkd.data.fetch.cli import main

if __name__ == "__main__":
    sys.exit(main())
