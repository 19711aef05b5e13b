# Sourced by the scripts: sets PYTHON to the interpreter of the active virtual environment, or of .venv.
# `. scripts/environment.sh --install` also makes .venv and installs requirements.txt, unless that was done before.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

if [ -n "${VIRTUAL_ENV:-}" ] || [ "${CONDA_DEFAULT_ENV:-base}" != base ]; then
    PYTHON=$(command -v python)
elif [ -x .venv/bin/python ]; then
    PYTHON=$PWD/.venv/bin/python
elif [ "${1:-}" = --install ]; then
    echo "Making a virtual environment in .venv"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        { echo "error: Python 3.10 or newer is needed; python3 is $(python3 --version)." >&2; exit 2; }
    python3 -m venv .venv || { echo "error: python3 -m venv failed; install Python's venv module." >&2; exit 2; }
    PYTHON=$PWD/.venv/bin/python
else
    PYTHON=$(command -v python3)
fi
export PYTHON

if [ "${1:-}" = --install ]; then
    # A stamp beside the environment's packages tells, without a network, that they are what requirements.txt asks for.
    stamp=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/.ogkd-requirements
    if ! cmp -s requirements.txt "$stamp"; then
        echo "Installing requirements.txt (a few minutes the first time)"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -r requirements.txt ||
            { echo "error: pip could not install requirements.txt; see its message above." >&2; exit 2; }
        cp requirements.txt "$stamp"
    fi
fi
