#!/usr/bin/env bash
# CLIP-Adapter: trains and tests on the base classes (it has no head for novel ones).
# bash scripts/clip_adapter/base2new.sh DATASET SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" CLIPAdapter base2new "$@"
