#!/usr/bin/env bash
# BiomedCoOp: trains on the base classes, tests base and novel.
# bash scripts/biomedcoop/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" BiomedCoOp base2new "$@"
