#!/usr/bin/env python3
"""A front of ogkd/cli/evaluate.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[0]))

from ogkd.cli.evaluate import main
from ogkd.core import run_program

if __name__ == "__main__":
    sys.exit(run_program(main))
