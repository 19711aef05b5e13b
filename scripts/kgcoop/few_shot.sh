#!/usr/bin/env bash
# KgCoOp: trains and tests on all classes.
# bash scripts/kgcoop/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" KgCoOp few_shot "$@"
