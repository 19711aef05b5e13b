#!/usr/bin/env bash
# Tip-Adapter-F: trains and tests on the base classes (it has no head for novel ones).
# bash scripts/tip_adapter_f/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" TipAdapterF base2new "$@"
