"""Pre-train PhantomCLIP from scratch: python -m phantom.pretrain [--out ogkd/models/phantomclip] [--work FOLDER]

A small ViT and a small BERT learn from captioned synthetic images that are in no data set: first the image tower, then
the text tower to match it. Writes a folder in BiomedCLIP's format. `--work` stores the trained image tower and reuses
it, so that the second stage can be repeated alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import BertWordPieceTokenizer
from torch import nn
from tqdm import tqdm

from ogkd.core import run_program

from . import corpus, image_stage, text_stage
from .captions import every_phrase

SEED = corpus.SEED
IMAGES, IMAGE_STEPS, TEXT_STEPS = 30_000, 2000, 1200
CONTEXT, EMBED, WORDS = 64, 128, 1200
BERT = {
    "model_type": "bert", "vocab_size": WORDS, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 256, "max_position_embeddings": CONTEXT, "type_vocab_size": 2, "pad_token_id": 0,
}  # fmt: skip
CONFIG = {
    "model_cfg": {
        "embed_dim": EMBED,
        "vision_cfg": {
            "timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
            "image_size": image_stage.INPUT_SIZE,
        },
        "text_cfg": {
            "hf_model_name": "config.json", "hf_tokenizer_name": "tokenizer.json", "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": CONTEXT,
        },
    },
    "preprocess_cfg": {"mean": [image_stage.MEAN] * 3, "std": [image_stage.STD] * 3},
}  # fmt: skip
# Words from teacher prompts and clinical English that are not in the captions: the tokenizer knows them, not the model.
MORE_WORDS = """
    a an the of with without in on and or photo scan image picture showing shows seen benign malignant tumor tumour
    lesion normal tissue brain breast lung kidney skin colon retina cell carcinoma appearance typical suggests grade
    probe beam
""".split()  # noqa: SIM905 - a list of strings would be harder to read


def write_tokenizer(folder: Path) -> None:
    """Write a lower-casing WordPiece tokenizer: letters first, so that any text can be tokenised, then the captions'
    words."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *".,:;!?'()-/%"]
    words = {word for text in every_phrase() for word in text.replace(":", " ").split()}
    entries += [word for word in sorted(words | set(MORE_WORDS)) if word not in set(entries)]
    for first in letters[:26]:
        entries += [f"##{first}{second}" for second in "aeiourstnl" if len(entries) < WORDS]
    entries = entries[:WORDS] + [f"[unused{i}]" for i in range(WORDS - len(entries))]
    tokenizer = BertWordPieceTokenizer({entry: i for i, entry in enumerate(entries)}, lowercase=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n")
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), entries, strict=False))
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))
    config = {**special, "tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": CONTEXT}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


def read_tokenizer(folder: Path) -> BertWordPieceTokenizer:
    """Read the tokenizer written by `write_tokenizer`; it pads to the longest text."""
    tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    tokenizer.enable_padding()
    return tokenizer


def build(trunk: nn.Module, seed: int) -> open_clip.CustomTextCLIP:
    """Build the pair of towers with `trunk` as the image tower's trunk and the rest untrained."""
    torch.manual_seed(seed)
    model_cfg = json.loads(json.dumps(CONFIG["model_cfg"]))
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "config.json").write_text(json.dumps(BERT))
        model_cfg["text_cfg"] |= {"hf_model_name": made, "hf_model_pretrained": False}
        model = open_clip.CustomTextCLIP(**model_cfg)
    model.visual.trunk.load_state_dict(trunk.state_dict())
    return model


def write_model(model: open_clip.CustomTextCLIP, folder: Path) -> None:
    """Write configurations and weights, in half precision."""
    (folder / "config.json").write_text(json.dumps(BERT, indent=1) + "\n")
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    state = {name: value.half().contiguous() for name, value in model.state_dict().items() if value.is_floating_point()}
    save_file(state, folder / "open_clip_model.safetensors")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("ogkd/models/phantomclip"))
    parser.add_argument("--work", type=Path, help="folder that keeps the trained image tower")
    args = parser.parse_args(argv)
    started = time.perf_counter()

    def log(line: str) -> None:
        print(f"{time.perf_counter() - started:6.0f} s  {line}", flush=True)

    images = corpus.make(IMAGES, lambda chunks: tqdm(chunks, "images", IMAGES // corpus.CHUNK))
    log(f"{len(images.images)} images")

    trunk = image_stage.new_trunk(SEED)
    tower = args.work / "image_tower.pt" if args.work else None
    if tower and tower.is_file():
        trunk.load_state_dict(torch.load(tower, weights_only=True))
        trunk.eval()
    else:
        image_stage.train(trunk, images, IMAGE_STEPS, SEED, log)
        if tower:
            tower.parent.mkdir(parents=True, exist_ok=True)
            torch.save(trunk.state_dict(), tower)
    features = image_stage.features(trunk, images)
    log("features of all images")

    args.out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(args.out)
    model = build(trunk, SEED)
    text_stage.train(model, read_tokenizer(args.out), features, images, TEXT_STEPS, SEED, log)
    write_model(model, args.out)
    log(f"{sum(p.numel() for p in model.parameters()):,} parameters in {args.out}")


if __name__ == "__main__":
    sys.exit(run_program(main))
