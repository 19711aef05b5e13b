"""`python -m ogkd COMMAND` is the same as `ogkd COMMAND`."""

import sys

from ogkd.cli import entry

if __name__ == "__main__":
    sys.exit(entry())
