#!/usr/bin/env bash
# CoCoOp: trains and tests on all classes.
# bash scripts/cocoop/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" CoCoOp few_shot "$@"
