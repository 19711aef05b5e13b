#!/usr/bin/env bash
exec bash "$(dirname "$0")/../run.sh" ResNet18 few_shot "$@" # trains and tests on all classes: DATASET SHOTS SEED [KEY VALUE ...]
