#!/usr/bin/env bash
# Zero-shot: trains and tests on all classes.
# bash scripts/zeroshot/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" ZeroShot few_shot "$@"
