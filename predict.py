#!/usr/bin/env python3
"""Classify images with a trained prompt: `python predict.py RUN IMAGE_OR_FOLDER...`."""

from __future__ import annotations

import sys

from ogkd.core import run_program
from ogkd.predict.command import main

if __name__ == "__main__":
    sys.exit(run_program(main))
