#!/usr/bin/env bash
# CoCoOp: learns on one data set, tests on another with the class names of that one.
# bash scripts/cocoop/transfer.sh SOURCE TARGET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" CoCoOp transfer "$@"
