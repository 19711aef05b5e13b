#!/usr/bin/env bash
# MaPLe: trains and tests on all classes.
# bash scripts/maple/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" MaPLe few_shot "$@"
