# Sourced by the scripts: sets PYTHON to the interpreter of the active virtual environment, or of .venv.
# `. scripts/environment.sh --install [FILE]` also makes .venv and installs FILE (requirements.txt), unless that was done
# before.
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
    wanted=${2:-requirements.txt}
    # A stamp beside the environment's packages tells, without a network, that they are what the files ask for.
    stamp=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/.ogkd-${wanted%.txt}
    if ! cat requirements.txt "$wanted" | cmp -s - "$stamp"; then
        echo "Installing $wanted (a few minutes the first time)"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$wanted" ||
            { echo "error: pip could not install $wanted; see its message above." >&2; exit 2; }
        cat requirements.txt "$wanted" > "$stamp"
    fi
fi
