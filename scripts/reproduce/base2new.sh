#!/usr/bin/env bash
# Runs all methods on all data sets and prints the table; continues where it was stopped. Options: --dry-run, --help.
# bash scripts/reproduce/base2new.sh [options of scripts/reproduce.py]    environment: DATA, OUTPUT, BACKBONE
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
exec "$PYTHON" "$PROJECT"/scripts/reproduce.py base2new "$@"
