#!/usr/bin/env bash
# LP++: trains and tests on all classes.
# bash scripts/lp_plus_plus/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" LPPlusPlus few_shot "$@"
