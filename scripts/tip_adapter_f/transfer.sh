#!/usr/bin/env bash
# Tip-Adapter-F: learns on one data set, tests on another with the class names of that one.
# bash scripts/tip_adapter_f/transfer.sh SOURCE TARGET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" TipAdapterF transfer "$@"
