#!/usr/bin/env bash
exec bash "$(dirname "$0")/../run.sh" ResNet18 base2new "$@" # trains and tests on the base classes (it has no head for novel ones): DATASET SEED [KEY VALUE ...]
