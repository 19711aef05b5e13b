#!/usr/bin/env bash
# OGKD's ablation on a data set: without each loss, with each graph, each number over its range; a table and two plots.
# bash scripts/ogkd/ablation.sh DATASET [SEEDS ...] [options of scripts/ablation.py]    environment: DATA, OUTPUT, BACKBONE
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
exec "$PYTHON" "$PROJECT"/scripts/ablation.py "$@"
