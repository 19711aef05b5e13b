#!/usr/bin/env bash
# Linear probe: trains and tests on the base classes (it has no head for novel ones).
# bash scripts/linear_probe/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" LinearProbe base2new "$@"
