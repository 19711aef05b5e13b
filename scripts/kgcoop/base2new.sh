#!/usr/bin/env bash
# KgCoOp: trains on the base classes, tests base and novel.
# bash scripts/kgcoop/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" KgCoOp base2new "$@"
