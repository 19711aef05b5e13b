#!/usr/bin/env python3
"""A front of ogkd/cli/corrupt.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ogkd.cli.corrupt import main
from ogkd.core import run_program

if __name__ == "__main__":
    sys.exit(run_program(main))
