#!/usr/bin/env bash
exec bash "$(dirname "$0")/../run.sh" GDA base2new "$@" # trains on the base classes, tests base and novel: DATASET SEED [KEY VALUE ...]
