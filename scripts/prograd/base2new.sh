#!/usr/bin/env bash
# ProGrad: trains on the base classes, tests base and novel.
# bash scripts/prograd/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" ProGrad base2new "$@"
