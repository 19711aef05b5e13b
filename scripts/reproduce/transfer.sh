#!/usr/bin/env bash
# Learns on BUSI, BTMRI and Phantom and tests on other data sets of the same classes; prints tables with intervals.
# bash scripts/reproduce/transfer.sh [options of scripts/transfer.py]    environment: DATA, OUTPUT, BACKBONE
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
exec "$PYTHON" "$PROJECT"/scripts/transfer.py "$@"
