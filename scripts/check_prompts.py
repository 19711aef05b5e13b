"""Check banks of teacher prompts and list every fault; `python scripts/check_prompts.py --help` says how."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ogkd.prompts.check_cli import main

if __name__ == "__main__":
    sys.exit(main())
