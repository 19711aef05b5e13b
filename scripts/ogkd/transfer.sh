#!/usr/bin/env bash
# OGKD: learns on one data set, tests on another with the class names of that one.
# bash scripts/ogkd/transfer.sh SOURCE TARGET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" OGKD transfer "$@"
