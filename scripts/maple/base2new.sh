#!/usr/bin/env bash
# MaPLe: trains on the base classes, tests base and novel.
# bash scripts/maple/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" MaPLe base2new "$@"
