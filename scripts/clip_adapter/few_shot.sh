#!/usr/bin/env bash
# CLIP-Adapter: trains and tests on all classes.
# bash scripts/clip_adapter/few_shot.sh DATASET SHOTS SEED [KEY VALUE ...]    environment: DATA, OUTPUT, BACKBONE
exec bash "$(dirname "$0")/../run.sh" CLIPAdapter few_shot "$@"
