#!/usr/bin/env bash
# ProGrad: trains and tests on all classes.
# bash scripts/prograd/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" ProGrad few_shot "$@"
