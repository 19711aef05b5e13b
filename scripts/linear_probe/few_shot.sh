#!/usr/bin/env bash
# Linear probe: trains and tests on all classes.
# bash scripts/linear_probe/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" LinearProbe few_shot "$@"
