# Sourced by the scripts: sets PROJECT to the project's folder and PYTHON to the interpreter of the active virtual
# environment, or of .venv. `. scripts/environment.sh --install [FILE]` also creates .venv and installs FILE (default:
# requirements.txt), unless that was done before.
#
# The current folder is not changed, so that relative paths are relative to it. The default DATA and OUTPUT are in the
# project's folder.
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 2

if [ -n "${VIRTUAL_ENV:-}" ]; then
    PYTHON=$VIRTUAL_ENV/bin/python
    [ -x "$PYTHON" ] || PYTHON=$VIRTUAL_ENV/Scripts/python.exe # Windows
    [ -x "$PYTHON" ] ||
        { echo "error: VIRTUAL_ENV is $VIRTUAL_ENV, which has no Python: create it again, or 'unset VIRTUAL_ENV'." >&2; exit 2; }
elif [ "${CONDA_DEFAULT_ENV:-base}" != base ]; then
    PYTHON=$(command -v python)
elif [ -x "$PROJECT/.venv/bin/python" ]; then
    PYTHON=$PROJECT/.venv/bin/python
elif [ "${1:-}" = --install ]; then
    echo "Creating a virtual environment in .venv"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        { echo "error: Python 3.10 or newer is needed; python3 is $(python3 --version)." >&2; exit 2; }
    python3 -m venv "$PROJECT/.venv" || { echo "error: python3 -m venv failed; install Python's venv module." >&2; exit 2; }
    PYTHON=$PROJECT/.venv/bin/python
else
    PYTHON=$(command -v python3)
fi
[ -n "$PYTHON" ] || { echo "error: there is no Python: run 'bash scripts/demo.sh', or install Python 3.10 or newer." >&2; exit 2; }
export PYTHON

if [ "$PWD" != "$PROJECT" ]; then
    export DATA=${DATA:-$PROJECT/data} OUTPUT=${OUTPUT:-$PROJECT/output}
fi

if [ "${1:-}" = --install ]; then
    wanted=${2:-requirements.txt}
    # A stamp file in the environment shows, without a network, that its packages are up to date.
    stamp=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/.ogkd-${wanted%.txt}
    if ! (cd "$PROJECT" && cat requirements.txt "$wanted") | cmp -s - "$stamp"; then
        echo "Installing $wanted (a few minutes the first time)"
        (cd "$PROJECT" && "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$wanted") ||
            { echo "error: pip could not install $wanted; see its message above." >&2; exit 2; }
        (cd "$PROJECT" && cat requirements.txt "$wanted") > "$stamp"
    fi
fi
