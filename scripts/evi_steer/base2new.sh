#!/usr/bin/env bash
exec bash "$(dirname "$0")/../run.sh" EviSteer base2new "$@" # trains on the base classes, tests base and novel: DATASET SEED [KEY VALUE ...]
