"""Pre-train PhantomCLIP from scratch: python -m phantom.pretrain [--steps N] [--out clip/phantomclip]

A small ViT and a small BERT, on captioned images of the generator that are not the data set's: contrastively on whole
images (Radford et al., ICML 2021) and on the patches where the finding is, since so small a ViT finds little on its
own; a classifier of findings on both helps it to begin and is thrown away. Writes a folder in BiomedCLIP's format.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import BertWordPieceTokenizer
from torch import Tensor
from tqdm import tqdm

from .captions import FRAMES, GROUP_WORDS, NAME_FRAMES, SEEN, caption
from .findings import CLASSES, GROUPS
from .images import draw_with_mask

SEED = 20_000  # far from the data set's seeds
IMAGES, BATCH, LR, WARMUP = 24_000, 64, 2e-3, 100
CONTEXT, EMBED, WORDS = 64, 128, 1200
INPUT_SIZE, PATCHES = 160, 10  # what timm's test_vit takes, patches a side; images are enlarged to it
MEAN, STD = [0.3, 0.3, 0.3], [0.25, 0.25, 0.25]
BERT = {
    "model_type": "bert", "vocab_size": WORDS, "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 256, "max_position_embeddings": CONTEXT, "type_vocab_size": 2, "pad_token_id": 0,
}  # fmt: skip
CONFIG = {
    "model_cfg": {
        "embed_dim": EMBED,
        "vision_cfg": {
            "timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
            "image_size": INPUT_SIZE,
        },
        "text_cfg": {
            "hf_model_name": "config.json", "hf_tokenizer_name": "tokenizer.json", "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": CONTEXT,
        },
    },
    "preprocess_cfg": {"mean": MEAN, "std": STD},
}  # fmt: skip
# Words of teacher prompts and clinical English that the captions lack: known to the tokenizer, not to the model.
MORE_WORDS = [
    "a",
    "an",
    "the",
    "of",
    "with",
    "without",
    "in",
    "on",
    "and",
    "or",
    "photo",
    "scan",
    "image",
    "showing",
    "shows",
    "seen",
    "benign",
    "malignant",
    "tumor",
    "tumour",
    "lesion",
    "normal",
    "tissue",
    "brain",
    "breast",
    "lung",
    "kidney",
    "skin",
    "colon",
    "retina",
    "cell",
    "carcinoma",
    "appearance",
    "typical",
    "suggests",
]


def make_images(chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A chunk of 500 images (500, 96, 96) uint8, the masks of their findings (packed bits) and their labels."""
    rng = np.random.default_rng([SEED, chunk])
    labels = rng.integers(len(CLASSES), size=500)
    images, masks = zip(*(draw_with_mask(rng, CLASSES[label]) for label in labels), strict=True)
    return np.stack(images), np.packbits(np.stack(masks), axis=-1), labels


def write_tokenizer(folder: Path, sentences: list[str]) -> None:
    """A lower-casing WordPiece tokenizer: letters first, so that any text tokenises, then the captions' own words."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *".,:;!?'()-/%"]
    words = {
        word for text in [*sentences, *CLASSES] for word in text.lower().replace(".", " ").replace(":", " ").split()
    }
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


def build(folder: Path) -> open_clip.CustomTextCLIP:
    """The untrained pair of towers."""
    model_cfg = json.loads(json.dumps(CONFIG["model_cfg"]))
    model_cfg["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    return open_clip.CustomTextCLIP(**model_cfg)


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross entropy of matching (B, D) features."""
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


def turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (K, B, H, W) flipped and turned by quarters, all alike."""
    if torch.rand((), generator=generator) < 0.5:
        images = images.flip(-1)
    return images.rot90(int(torch.randint(4, (), generator=generator)), (-2, -1))


def pixels(images: Tensor) -> Tensor:
    """Greys (B, 96, 96) in 0..255 as the model takes them, (B, 3, 160, 160)."""
    enlarged = F.interpolate(images[:, None] / 255, (INPUT_SIZE, INPUT_SIZE), mode="bicubic", align_corners=False)
    return ((enlarged - MEAN[0]) / STD[0]).expand(-1, 3, -1, -1)


def patch_weights(masks: Tensor) -> Tensor:
    """Equal weights (B, P) of the patches that masks (B, 96, 96) touch, summing to 1."""
    touched = F.adaptive_avg_pool2d(masks[:, None], PATCHES).flatten(1) > 0.02
    return touched / touched.sum(1, keepdim=True).clamp_min(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("clip/phantomclip"))
    args = parser.parse_args()
    started = time.time()
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    generator = torch.Generator().manual_seed(SEED)

    with Pool() as pool:
        chunks = list(tqdm(pool.imap(make_images, range(IMAGES // 500)), "images", IMAGES // 500))
    images, masks, labels = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    print(f"{len(images)} images after {time.time() - started:.0f} s")

    args.out.mkdir(parents=True, exist_ok=True)
    sentences = [text for texts in (*SEEN.values(), *GROUP_WORDS.values(), FRAMES, NAME_FRAMES) for text in texts]
    write_tokenizer(args.out, sentences)
    (args.out / "config.json").write_text(json.dumps(BERT, indent=1))
    (args.out / "open_clip_config.json").write_text(json.dumps(CONFIG, indent=1))
    tokenizer = BertWordPieceTokenizer(str(args.out / "vocab.txt"), lowercase=True)
    tokenizer.enable_padding()

    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "config.json").write_text(json.dumps(BERT))
        model = build(Path(made))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    trunk, project = model.visual.trunk, model.visual.head
    helper = torch.nn.Linear(trunk.num_features, len(CLASSES))
    learned = [*model.parameters(), *helper.parameters()]
    decayed, others = [p for p in learned if p.ndim > 1], [p for p in learned if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0}], LR
    )

    model.train()
    losses = []
    for step in tqdm(range(args.steps), "steps", mininterval=10):
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / WARMUP)
            group["lr"] = LR * warm * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        rows = rng.integers(len(images), size=BATCH)
        texts = [caption(rng, CLASSES[labels[row]], GROUPS[CLASSES[labels[row]]], CLASSES) for row in rows]
        ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(texts)])
        finding = np.unpackbits(masks[rows], axis=-1)
        batch, mask = turned(torch.from_numpy(np.stack([images[rows], finding])).float(), generator)
        tokens = trunk.forward_features(pixels(batch))
        text, scale = model.encode_text(ids), model.logit_scale.exp()
        loss = torch.zeros(())
        for feature in (tokens[:, 0], torch.einsum("bp,bpd->bd", patch_weights(mask), tokens[:, 1:])):
            loss = loss + contrastive_loss(project(feature), text, scale)
            loss = loss + F.cross_entropy(helper(feature), torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(
                f"step {step + 1}: loss {np.mean(losses[-100:]):.3f}, scale {model.logit_scale.exp():.1f}", flush=True
            )

    state = {name: value.half().contiguous() for name, value in model.state_dict().items() if value.is_floating_point()}
    save_file(state, args.out / "open_clip_model.safetensors")
    print(f"{args.out} after {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
