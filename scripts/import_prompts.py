"""Turn the published prompts into a bank of this project; `python scripts/import_prompts.py --help` says how."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ogkd.prompts.import_cli import main

if __name__ == "__main__":
    sys.exit(main())
