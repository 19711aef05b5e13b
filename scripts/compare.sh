#!/usr/bin/env bash
# Runs all methods with seeds 1, 2, 3 on a data set and prints one table per protocol.
# bash scripts/compare.sh DATASET [options of scripts/compare.py]    environment: DATA, OUTPUT, BACKBONE
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec "$PYTHON" "$PROJECT"/scripts/compare.py "$@"
