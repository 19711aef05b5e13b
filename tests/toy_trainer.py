"""A trainer as one writes it for CoOp's code base: nothing of this project but dassl and a CLIP."""

import os.path as osp

import torch
import torch.nn as nn
from torch.nn import functional as F

from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights
from ogkd import models


class CustomCLIP(nn.Module):
    def __init__(self, classnames, clip_model):
        super().__init__()
        tokens = clip_model.tokenize([f"a scan of {name}." for name in classnames])
        with torch.no_grad():
            text = clip_model.encode_text(clip_model.embed(tokens.ids), tokens.mask)
        self.prompt_learner = nn.Linear(text.shape[1], len(classnames), bias=False)
        self.prompt_learner.weight.data.copy_(F.normalize(text, dim=-1))
        self.clip_model = clip_model

    def forward(self, image):
        features = self.clip_model.encode_image(image).global_token
        return self.clip_model.logit_scale * self.prompt_learner(F.normalize(features, dim=-1))


@TRAINER_REGISTRY.register()
class ToyCoOp(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.COOP.N_CTX == 4

    def build_model(self):
        cfg = self.cfg
        self.model = CustomCLIP(self.dm.dataset.classnames, models.load(cfg.MODEL.BACKBONE.NAME))
        for name, param in self.model.named_parameters():
            if "prompt_learner" not in name:
                param.requires_grad_(False)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.prompt_learner, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.prompt_learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        model_file = "model-best.pth.tar" if epoch is None else "model.pth.tar-" + str(epoch)
        for name in self.get_model_names():
            checkpoint = load_checkpoint(osp.join(directory, name, model_file))
            self._models[name].load_state_dict(checkpoint["state_dict"], strict=False)
