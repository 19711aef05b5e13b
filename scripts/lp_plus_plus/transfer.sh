#!/usr/bin/env bash
# LP++: learns on one data set, tests on another with the class names of that one.
# bash scripts/lp_plus_plus/transfer.sh SOURCE TARGET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" LPPlusPlus transfer "$@"
