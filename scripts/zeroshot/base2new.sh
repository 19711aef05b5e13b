#!/usr/bin/env bash
# Zero-shot: trains on the base classes, tests base and novel.
# bash scripts/zeroshot/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" ZeroShot base2new "$@"
