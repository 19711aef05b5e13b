#!/usr/bin/env bash
# LP++: trains and tests on the base classes (it has no head for novel ones).
# bash scripts/lp_plus_plus/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" LPPlusPlus base2new "$@"
