#!/usr/bin/env bash
# Zero-shot ensemble: trains on the base classes, tests base and novel.
# bash scripts/zeroshot_ensemble/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" ZeroShotEnsemble base2new "$@"
