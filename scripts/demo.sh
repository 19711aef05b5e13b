#!/usr/bin/env bash
# Sets up .venv (or uses the active environment), generates the Phantom data set if missing, runs zero-shot, CoOp and
# OGKD base-to-novel on it for seed 1, and prints one table.
# bash scripts/demo.sh [options of scripts/compare.py]    environment: DATA, OUTPUT
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" --install
exec "$PYTHON" "$PROJECT"/scripts/compare.py phantom --protocol base2new --seeds 1 --methods ZeroShot CoOp OGKD --seconds "$@"
