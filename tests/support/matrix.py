"""Which methods run on which kinds of models: each cell is a training of one epoch on a tiny random model of the kind.

python -m tests.support.matrix    writes the table in docs/backbones.md
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ogkd import models
from ogkd.core import UserError
from ogkd.models.convert import convert
from ogkd.predict.classifier import PromptClassifier
from ogkd.runs.registry import benchmark_methods, method_class

from . import tiny_models
from .wordpiece import write_tokenizer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "backbones.md"
BEGIN, END = "<!-- matrix:begin -->\n", "<!-- matrix:end -->"
PROMPTS = {"cyst": ["a cyst", "the cyst", "of a cyst"], "mass": ["a mass", "the mass", "of a mass"]}
RUNS, NO_PATCHES = "yes", "without its local term"


def _unimed(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        tiny_models.checkpoint(Path(made) / "weights.pt", "UniMed-CLIP")
        write_tokenizer(Path(made), 1024, 77)
        convert(Path(made) / "weights.pt", "UniMed-CLIP", folder, Path(made))


KINDS: dict[str, Callable[[Path], object]] = {
    "BiomedCLIP (timm's ViT, BERT)": tiny_models.biomedclip,
    "UniMed-CLIP (CLIP's ViT, BERT)": _unimed,
    "CLIP (ViT)": tiny_models.native_clip,
    "CLIP (ResNet)": lambda folder: tiny_models.native_clip(folder, resnet=True),
    "PMC-CLIP (ResNet, BERT)": tiny_models.pmc_clip,
    "KEEP (timm's ViT, BERT's pooler)": tiny_models.keep,
    "CLIP of transformers": tiny_models.transformers_clip,
    "SigLIP of open_clip": tiny_models.open_clip_siglip,
    "SigLIP of transformers": tiny_models.transformers_siglip,
    "timm's other networks (ConvNeXt)": tiny_models.convnext_clip,
}


def cell(method: str, backbone: Path, cache: Path) -> str:
    """RUNS, NO_PATCHES, or why the method cannot be used with the model."""
    noise = np.random.default_rng(0)
    images = [Image.fromarray(noise.integers(0, 256, (40, 32, 3), dtype=np.uint8)) for _ in range(8)]
    options = method_class(method).options
    teacher = {"prompts": PROMPTS} if "PROMPTS" in options else {}
    pairs: dict[str, object] = {"OPTIM.MAX_EPOCH": 1, "FEATURES.CACHE_DIR": str(cache), "DATALOADER.NUM_WORKERS": 0}
    pairs |= {"ctx_init": ""} if "CTX_INIT" in options else {}  # which is more tokens for the tiny tokenizers
    pairs |= {"weights": "random"} if method == "ResNet18" else {}  # else the hub's
    try:
        classifier = PromptClassifier(method, str(backbone), shots=2, **teacher, **pairs).fit(images, [*PROMPTS] * 4)
    except UserError as error:
        return str(error).replace(backbone.name, "the model")
    assert np.isfinite(classifier.predict_proba(images[:2])).all(), f"{method} on {backbone.name}"
    lacks = method_class(method).uses_patches and not models.load(backbone).has_patches
    return NO_PATCHES if lacks else RUNS


def cells() -> Iterator[tuple[tuple[str, str], str]]:
    """((kind, method), what its cell says), kind by kind, so that each model is loaded once."""
    with tempfile.TemporaryDirectory() as made:
        for number, (kind, maker) in enumerate(KINDS.items()):
            folder = Path(made) / f"model{number}"
            maker(folder)
            for method in benchmark_methods():
                if method_class(method).__module__.startswith("ogkd.trainers."):
                    yield (kind, method), cell(method, folder, Path(made) / "cache")


def table(texts: dict[tuple[str, str], str]) -> str:
    """A sentence on the methods that run on every kind, and the table of the others by (kind, method), and notes."""
    kinds, methods = dict.fromkeys(kind for kind, _ in texts), dict.fromkeys(method for _, method in texts)
    reasons = list(dict.fromkeys(said for said in texts.values() if said != RUNS))
    everywhere = [method for method in methods if {texts[kind, method] for kind in kinds} == {RUNS}]
    named = ", ".join(method_class(method).title for method in everywhere)
    lines = [f"On every kind: {named}.", "", "| | " + " | ".join(kinds) + " |", "|---|" + "---|" * len(kinds)]
    for method in (method for method in methods if method not in everywhere):
        row = [texts[kind, method] for kind in kinds]
        numbers = [f" ({reasons.index(said) + 1})" if said != RUNS else "" for said in row]
        shown = [("yes" if said in (RUNS, NO_PATCHES) else "no") + n for said, n in zip(row, numbers, strict=True)]
        lines.append(f"| {method_class(method).title} | " + " | ".join(shown) + " |")
    notes = [f"- ({number}) {reason[0].upper() + reason[1:].rstrip('.')}." for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes]) + "\n"


def in_page() -> str:
    """The table that the page has."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    new = table(dict(cells()))
    PAGE.write_text(re.sub(re.escape(BEGIN) + ".*?" + END, lambda _: BEGIN + new + END, text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
