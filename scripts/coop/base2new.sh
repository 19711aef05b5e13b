#!/usr/bin/env bash
# CoOp: trains on the base classes, tests base and novel.
# bash scripts/coop/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" CoOp base2new "$@"
