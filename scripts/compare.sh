#!/usr/bin/env bash
# Runs all methods over seeds 1, 2, 3 for both protocols on a data set and prints a table for each.
# bash scripts/compare.sh DATASET [options of scripts/compare.py]    environment: DATA, OUTPUT, BACKBONE
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec "$PYTHON" "$PROJECT"/scripts/compare.py "$@"
