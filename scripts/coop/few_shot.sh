#!/usr/bin/env bash
# CoOp: trains and tests on all classes.
# bash scripts/coop/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" CoOp few_shot "$@"
