"""Make a model folder of weights that a training wrote: `python scripts/convert.py FILE --as NAME --to FOLDER`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ogkd.core import expanded
from ogkd.core.places import command
from ogkd.models.checkpoints import CHECKPOINTS


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=command("convert"),
        description="Write a folder in open_clip's format (configuration, safetensors, tokenizer) from the published "
        f"weights of {', '.join(CHECKPOINTS)}. Nothing in the file is run, and only its tensors are read.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the weights, such as unimed-clip-vit-b16.pt")
    parser.add_argument("--as", dest="name", required=True, metavar="NAME", help="whose weights they are, as above")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="an empty or new folder")
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="its tokenizer's files (default: the hub's)")
    options = parser.parse_args(argv)
    from ogkd.models.convert import convert  # with PyTorch, which --help needs not

    tokenizer = Path(expanded(options.tokenizer)) if options.tokenizer else None
    convert(Path(expanded(options.file)), options.name, Path(expanded(options.to)), tokenizer)
    print(f"Written to {options.to}: a run uses it with BACKBONE={options.to}.")
