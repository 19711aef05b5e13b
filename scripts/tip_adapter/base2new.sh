#!/usr/bin/env bash
# Tip-Adapter: trains and tests on the base classes (it has no head for novel ones).
# bash scripts/tip_adapter/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" TipAdapter base2new "$@"
