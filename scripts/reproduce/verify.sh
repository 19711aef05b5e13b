#!/usr/bin/env bash
# Tests BiomedCoOp's released prompts on the data that are there and compares with the published accuracies.
# bash scripts/reproduce/verify.sh [DATASET ...] [options of scripts/verify.py]    environment: DATA, OUTPUT, BACKBONE
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
exec "$PYTHON" "$PROJECT"/scripts/verify.py "$@"
