#!/usr/bin/env bash
# Zero-shot: learns on one data set, tests on another with the class names of that one.
# bash scripts/zeroshot/transfer.sh SOURCE TARGET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" ZeroShot transfer "$@"
