#!/usr/bin/env bash
# Sets up .venv (or uses the active environment) and runs the tests, a process per core; arguments go to pytest.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" --install requirements-dev.txt
cd "$PROJECT" && exec "$PYTHON" -m pytest -n auto --dist loadfile "$@"
