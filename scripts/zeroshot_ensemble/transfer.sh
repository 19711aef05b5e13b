#!/usr/bin/env bash
# Zero-shot ensemble: learns on one data set, tests on another with the class names of that one.
# bash scripts/zeroshot_ensemble/transfer.sh SOURCE TARGET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" ZeroShotEnsemble transfer "$@"
