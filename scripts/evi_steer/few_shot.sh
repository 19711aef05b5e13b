#!/usr/bin/env bash
exec bash "$(dirname "$0")/../run.sh" EviSteer few_shot "$@" # trains and tests on all classes: DATASET SHOTS SEED [KEY VALUE ...]
