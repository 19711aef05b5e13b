#!/usr/bin/env bash
# KgCoOp: learns on one data set, tests on another with the class names of that one.
# bash scripts/kgcoop/transfer.sh SOURCE TARGET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" KgCoOp transfer "$@"
