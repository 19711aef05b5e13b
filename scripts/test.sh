#!/usr/bin/env bash
# Sets up .venv (or uses the active environment) and runs the tests with one process per core; arguments are passed on to pytest.
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" --install requirements-dev.txt
cd "$PROJECT" && exec "$PYTHON" -m pytest -n auto --dist loadfile "$@"
