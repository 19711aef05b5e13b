#!/usr/bin/env bash
# OGKD: trains and tests on all classes.
# bash scripts/ogkd/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" OGKD few_shot "$@"
