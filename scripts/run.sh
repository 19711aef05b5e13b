#!/usr/bin/env bash
# Runs one protocol of one method: scripts/run.sh METHOD PROTOCOL ARGUMENTS...; see scripts/<method>/<protocol>.sh.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec "$PYTHON" "$PROJECT"/scripts/run.py "$@"
