#!/usr/bin/env bash
# Tip-Adapter: trains and tests on all classes.
# bash scripts/tip_adapter/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" TipAdapter few_shot "$@"
