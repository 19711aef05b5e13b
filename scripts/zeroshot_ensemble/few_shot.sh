#!/usr/bin/env bash
# Zero-shot ensemble: trains and tests on all classes.
# bash scripts/zeroshot_ensemble/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" ZeroShotEnsemble few_shot "$@"
