#!/usr/bin/env bash
# CoCoOp: trains on the base classes, tests base and novel.
# bash scripts/cocoop/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" CoCoOp base2new "$@"
