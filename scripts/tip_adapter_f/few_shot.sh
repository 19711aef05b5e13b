#!/usr/bin/env bash
# Tip-Adapter-F: trains and tests on all classes.
# bash scripts/tip_adapter_f/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" TipAdapterF few_shot "$@"
