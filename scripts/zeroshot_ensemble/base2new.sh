#!/usr/bin/env bash
# Zero-shot, mean of the teacher prompts: trains on the base classes, tests base and novel.
# bash scripts/zeroshot_ensemble/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" ZeroShotEnsemble base2new "$@"
