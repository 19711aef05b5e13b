#!/usr/bin/env bash
# BiomedCoOp: trains and tests on all classes.
# bash scripts/biomedcoop/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" BiomedCoOp few_shot "$@"
