"""First stage: trains the image tower with everything that the generator knows about an image.

Auxiliary classifiers predict the finding from the class token and from the mean of the patches that show it, the
modality from the class token, and finding or background from each patch: a small ViT learns little without them. They
are discarded afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ogkd.phantom.images import MODALITIES, SIZE

from .corpus import FINDINGS, Corpus

PATCH = 16  # side in pixels, of timm's test_vit
INPUT_SIZE, SMALL_SIZE = 160, 128  # images are enlarged to the first; in the first steps to the second, which is faster
SMALL_SHARE = 0.8  # share of the steps
SMALLEST_CROP = 72  # side in pixels
MEAN, STD = 0.4, 0.27
BATCH, LR, MATRIX_LR, WARMUP = 64, 2e-3, 0.02, 100


def new_trunk(seed: int) -> VisionTransformer:
    """Build the untrained ViT, which takes images of several sizes."""
    torch.manual_seed(seed)
    trunk = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True)
    assert isinstance(trunk, VisionTransformer)
    return trunk


@cache
def _enlargement(side: int, size: int) -> Tensor:
    """Return the matrix (size, side) that enlarges a column of pixels bicubically."""
    return F.interpolate(torch.eye(side)[None, None], (size, side), mode="bicubic", align_corners=False)[0, 0]


def pixels(images: Tensor, size: int = INPUT_SIZE) -> Tensor:
    """Convert square colour images (B, S, S, 3) in 0..255 to the model's input (B, 3, size, size)."""
    matrix = _enlargement(images.shape[1], size)
    # a matrix product takes a quarter of the time of F.interpolate
    return (matrix @ images.permute(0, 3, 1, 2).float() @ matrix.t() / 255 - MEAN) / STD


def touched_patches(masks: Tensor, patches: int) -> Tensor:
    """Return which patches (B, P) the masks (B, H, W) touch, as 0 or 1."""
    return (F.adaptive_avg_pool2d(masks[:, None].float(), math.isqrt(patches)).flatten(1) > 0.02).float()


def mean_of(patches: Tensor, touched: Tensor) -> Tensor:
    """Return the mean (B, D) of the touched patches (B, P, D), or of all if none is touched."""
    weights = torch.where(touched.sum(1, keepdim=True) > 0, touched, torch.ones_like(touched))
    return torch.einsum("bp,bpd->bd", weights / weights.sum(1, keepdim=True), patches)


def unpacked(masks: np.ndarray) -> Tensor:
    """Unpack masks (B, 96, 96) from bits."""
    return torch.from_numpy(np.unpackbits(masks, axis=-1))


def batches(corpus: Corpus, steps: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield images (B, H, W, 3), masks (B, H, W), findings and modalities (B,); a batch shares its crop and
    rotation."""
    order = np.concatenate(
        [rng.permutation(len(corpus.images)) for _ in range(1 + steps * BATCH // len(corpus.images))]
    )
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        images, masks = torch.from_numpy(corpus.images[rows]), unpacked(corpus.masks[rows])
        side = SIZE if rng.random() < 0.4 else int(rng.integers(SMALLEST_CROP, SIZE))
        top, left = rng.integers(SIZE - side + 1, size=2)
        images, masks = (part[:, top : top + side, left : left + side] for part in (images, masks))
        if rng.random() < 0.5:
            images, masks = images.flip(2), masks.flip(2)
        turns = int(rng.integers(4))
        images, masks = (part.rot90(turns, (1, 2)) for part in (images, masks))
        yield images, masks, torch.from_numpy(corpus.finding[rows]), torch.from_numpy(corpus.modality[rows])


class Helpers(nn.Module):
    """The auxiliary classifiers for training the trunk, and their loss."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.finding = nn.Linear(width, len(FINDINGS))
        self.modality = nn.Linear(width, len(MODALITIES))
        self.abnormal = nn.Linear(width, 1)

    def forward(self, tokens: Tensor, masks: Tensor, finding: Tensor, modality: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the class token's accuracy, from tokens (B, 1 + P, width)."""
        overall, patches = tokens[:, 0], tokens[:, 1:]
        touched = touched_patches(masks, patches.shape[1])
        logits = self.finding(overall)
        loss = F.cross_entropy(logits, finding) + 0.2 * F.cross_entropy(self.modality(overall), modality)
        loss = loss + F.cross_entropy(self.finding(mean_of(patches, touched)), finding)
        loss = loss + F.binary_cross_entropy_with_logits(self.abnormal(patches)[..., 0], touched)
        return loss, (logits.argmax(1) == finding).float().mean()


def train(trunk: VisionTransformer, corpus: Corpus, steps: int, seed: int, log: Callable[[str], None] = print) -> None:
    """Train `trunk` (timm's ViT) in place: Muon for the blocks' matrices, AdamW for the rest."""
    torch.manual_seed(seed)
    helpers = Helpers(trunk.num_features)
    matrices = [p for p in trunk.blocks.parameters() if p.ndim == 2]
    held = {id(p) for p in matrices}
    others = [p for p in (*trunk.parameters(), *helpers.parameters()) if id(p) not in held]
    optimizers = [
        torch.optim.Muon(matrices, MATRIX_LR, weight_decay=0.01, nesterov=True),
        torch.optim.AdamW(others, LR, weight_decay=0.01),
    ]
    rates = [MATRIX_LR, LR]
    trunk.train()
    losses, accuracies = [], []
    for step, (images, masks, finding, modality) in enumerate(batches(corpus, steps, np.random.default_rng(seed)), 1):
        factor = min(1.0, step / WARMUP) * (1 - (step - 1) / steps)
        size = SMALL_SIZE if step <= SMALL_SHARE * steps else INPUT_SIZE
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.zero_grad()
        loss, accuracy = helpers(trunk.forward_features(pixels(images, size)), masks, finding, modality)
        loss.backward()
        nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        accuracies.append(accuracy.item())
        if step % 100 == 0:
            log(f"image tower, step {step}: loss {np.mean(losses[-100:]):.3f}, right {np.mean(accuracies[-100:]):.3f}")
    trunk.eval()


@torch.no_grad()
def features(trunk: VisionTransformer, corpus: Corpus, log: Callable[[str], None] = print) -> tuple[Tensor, Tensor]:
    """Return every image's class token and the mean of its patches with the finding, both (N, width)."""
    overall, local = [], []
    for start in range(0, len(corpus.images), 250):
        rows = slice(start, start + 250)
        tokens = trunk.forward_features(pixels(torch.from_numpy(corpus.images[rows])))
        overall.append(tokens[:, 0])
        local.append(mean_of(tokens[:, 1:], touched_patches(unpacked(corpus.masks[rows]), tokens.shape[1] - 1)))
    return torch.cat(overall), torch.cat(local)
