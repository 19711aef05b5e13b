#!/usr/bin/env bash
# OGKD: trains on the base classes, tests base and novel.
# bash scripts/ogkd/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" OGKD base2new "$@"
