"""A straightforward implementation of a run, as the reference for benchmarks.

open_clip itself builds and loads the model, texts are padded to the context length, each batch of images is encoded in
its step, and the teacher's prompts are selected in a loop with one synchronisation each.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer
from yacs.config import CfgNode

from tests.support.random_weights import SIZES, bert_config


def load_plain(folder: Path, size: str = "full") -> tuple[Any, Any]:
    """The model, built by open_clip and loaded by load_state_dict, and the tokenizer of the folder; `size` as in
    tests/support/random_weights.py."""
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "config.json").write_text(json.dumps(bert_config(SIZES[size])))
        config["text_cfg"] |= {"hf_model_name": made, "hf_model_pretrained": False}
        model = open_clip.CustomTextCLIP(**config)
    state = load_file(folder / "open_clip_model.safetensors")
    state = {name: value for name, value in state.items() if not name.endswith("position_ids")}
    model.load_state_dict(state, strict=False)
    return model.eval().requires_grad_(False), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


class PlainOGKD:
    """OGKD as a direct transcription of its formulas, on padded texts and one batch at a time."""

    def __init__(
        self,
        folder: Path,
        classnames: list[str],
        sentences: list[list[str]],
        cfg: CfgNode,
        size: str = "full",
        device: torch.device | str = "cpu",
    ) -> None:
        self.options, self.classnames, self.device = cfg.TRAINER.OGKD, classnames, torch.device(device)
        model, self.tokenizer = load_plain(folder, size)
        self.model = model.to(self.device)
        self.context_length = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"][
            "context_length"
        ]
        self.scale = self.model.logit_scale.exp()
        self.words = self.model.text.transformer.get_input_embeddings()
        with torch.no_grad():
            of_class = [self.encode_text(self.words(self.tokenize(texts)), self.tokenize(texts)) for texts in sentences]
            self.prompts = F.normalize(torch.stack(of_class), dim=-1)
            self.prototypes = F.normalize(self.prompts.mean(1), dim=-1)
            graph = self.options.ALPHA * self.prototypes @ self.prototypes.t()
            self.graph = graph.softmax(-1)
            self.ids = self.tokenize([f"{self.options.CTX_INIT} {name.replace('_', ' ')}." for name in classnames])
            embedded = self.words(self.ids)
        n_ctx = self.options.N_CTX
        self.prefix, self.suffix = embedded[:, :1], embedded[:, 1 + n_ctx :]
        self.ctx = embedded[0, 1 : 1 + n_ctx].clone().requires_grad_()
        self.optim = torch.optim.SGD([self.ctx], lr=cfg.OPTIM.LR, momentum=0.9, weight_decay=5e-4)

    def tokenize(self, texts: list[str]) -> Tensor:
        return self.tokenizer(
            texts, padding="max_length", max_length=self.context_length, truncation=True, return_tensors="pt"
        ).input_ids.to(self.device)

    def encode_text(self, embedded: Tensor, ids: Tensor) -> Tensor:
        text, mask = self.model.text, (ids != 0).long()
        out = text.transformer(inputs_embeds=embedded, attention_mask=mask)
        return text.proj(text.pooler(out, mask))

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            tokens = self.model.visual.trunk.forward_features(images)
            tokens = F.normalize(self.model.visual.head(tokens), dim=-1)
        return tokens[:, 0], tokens[:, 1:]

    def select(self, image: Tensor) -> Tensor:
        scores = []
        for m in range(self.prompts.shape[1]):
            logits = self.scale * image @ self.prompts[:, m].t()
            scores.append(logits.max(-1).values.mean().item())
        score = torch.tensor(scores, device=self.device)
        deviation = score - score.median()
        zeta = deviation / deviation.abs().median()
        selected = ((zeta - zeta.mean()) / zeta.std()).abs() <= self.options.TAU
        return F.normalize(self.prompts[:, selected].mean(1), dim=-1)

    def smooth(self, log_prob: Tensor) -> Tensor:
        gamma = self.options.GAMMA
        return (1 - gamma) * log_prob + gamma * log_prob @ self.graph

    def step(self, images: Tensor, label: Tensor, lr: float) -> float:
        """One optimisation step on images (B, 3, H, W). Returns the total loss."""
        options, scale = self.options, self.scale
        images, label = images.to(self.device), label.to(self.device)
        image, patches = self.encode_image(images)
        ctx = self.ctx.expand(len(self.classnames), -1, -1)
        embedded = torch.cat([self.prefix, ctx, self.suffix], dim=1)
        text = F.normalize(self.encode_text(embedded, self.ids), dim=-1)
        logits, patch_logits = scale * image @ text.t(), scale * patches @ text.t()
        with torch.no_grad():
            selected = self.select(image)
            teacher, patch_teacher = scale * image @ selected.t(), scale * patches @ selected.t()
            r, patch_r = self.smooth(teacher.log_softmax(-1)), self.smooth(patch_teacher.log_softmax(-1))
        gad = (r.exp() * (r - logits.log_softmax(-1))).sum() / logits.numel()

        count = max(1, round(patches.shape[1] * options.TOP_K_RATIO))
        lgd = torch.zeros((), device=self.device)
        for i, c in enumerate(label.tolist()):
            chosen = patch_teacher[i, :, c].abs().topk(count).indices
            r_chosen = patch_r[i, chosen, c]
            lgd = lgd + (r_chosen.exp() * (r_chosen - patch_logits[i].log_softmax(-1)[chosen, c])).sum()
        lgd = lgd / (len(label) * count)

        loss = F.cross_entropy(logits, label) + options.LAMBDA_SCCM * F.mse_loss(text, self.prototypes)
        loss = loss + options.LAMBDA_GAD * gad + options.LAMBDA_LGD * lgd
        for group in self.optim.param_groups:
            group["lr"] = lr
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        return loss.item()
