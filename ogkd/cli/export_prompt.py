"""Export a trained prompt: `python scripts/export_prompt.py RUN FOLDER [--push org/name]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ogkd.core.places import command
from ogkd.predict.operating import add_arguments, wish


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=command("export"),
        description="Write what a finished run learned as prompt.safetensors, config.json and README.md (a model "
        "card), without images, file names or paths of the training data. predict.py reads the folder.",
    )
    parser.add_argument("run", metavar="RUN", help="a finished run's folder")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to write")
    add_arguments(parser)
    parser.add_argument("--push", metavar="ORG/NAME", help="upload it to this repository on the Hugging Face hub")
    parser.add_argument("--public", action="store_true", help="make a new repository public (default: private)")
    parser.add_argument(
        "--onnx", action="store_true", help="also write model.onnx, image tower and classifier in one file, which "
        "needs no PyTorch; it is not uploaded",
    )  # fmt: skip
    args = parser.parse_args(argv)
    from ogkd.predict.export import export, export_onnx, push

    for name, size in export(args.run, args.folder, wish(args)).items():
        print(f"{args.folder / name}: {size:,} bytes")
    if args.onnx:
        path = export_onnx(args.run, args.folder)
        print(f"{path}: {path.stat().st_size:,} bytes")
    if args.push:
        print(f"Uploaded to {push(args.folder, args.push, args.public)}")
