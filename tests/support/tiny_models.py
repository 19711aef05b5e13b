"""Makers of tiny checkpoints with random weights, each in the very format of a published model."""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy
import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.tokenizer import bytes_to_unicode
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from . import random_weights
from .wordpiece import write_tokenizer

PREPROCESS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
BERT = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 1,
    "intermediate_size": 128,
    "max_position_embeddings": 96,
    "pad_token_id": 0,
}


def biomedclip(folder: Path, **options) -> Path:
    """A folder in BiomedCLIP's format: timm ViT, BERT without a configuration of its own, WordPiece tokenizer."""
    return random_weights.write(folder, "tiny", **options)


def write_text_config(folder: Path, **options) -> None:
    """Put the config.json of its text tower, with `options` changed, into a folder that `biomedclip` made."""
    config = random_weights.bert_config(random_weights.SIZES["tiny"]) | options
    (folder / "config.json").write_text(json.dumps(config))


def edit(path: Path, **entries: object) -> None:
    """Change entries of a JSON file; a dict changes entries of the object there."""

    def merged(old: dict, new: dict) -> dict:
        return old | {k: merged(old.get(k, {}), v) if isinstance(v, dict) else v for k, v in new.items()}

    path.write_text(json.dumps(merged(json.loads(path.read_text()), entries)))


def with_state(folder: Path, other: Path, state: object) -> Path:
    """Copy a folder that `biomedclip` made to `other`, with these weights in PyTorch's format."""
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(state, other / "open_clip_pytorch_model.bin")
    return other


def biomedclip_state(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder that `biomedclip` made."""
    return load_file(folder / "open_clip_model.safetensors")


def plain_biomedclip(folder: Path, scratch: Path) -> open_clip.CustomTextCLIP:
    """The same model as open_clip builds it itself: initialised, then filled with the folder's weights."""
    cfg = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    size = random_weights.SIZES["tiny"]
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "config.json").write_text(json.dumps(random_weights.bert_config(size)))
    cfg["text_cfg"] |= {"hf_model_name": str(scratch), "hf_model_pretrained": False}
    model = open_clip.CustomTextCLIP(**cfg).eval()
    state = biomedclip_state(folder)
    del state["text.transformer.embeddings.position_ids"]
    model.load_state_dict(state)
    return model


def native_clip(folder: Path, resnet: bool = False, seed: int = 0) -> open_clip.CLIP:
    """Write a folder in open_clip's format with CLIP's own towers (ViT or ResNet); return the model it holds."""
    vision = {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8}
    if resnet:
        vision = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "patch_size": None}
    cfg = {
        "embed_dim": 24,
        "quick_gelu": not resnet,
        "vision_cfg": vision,
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3},
    }
    torch.manual_seed(seed)
    model = open_clip.CLIP(**cfg).eval()
    _stir_norms(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": PREPROCESS}))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return model


class KEEPReference(nn.Module):
    """KEEP's towers under the names of its published file."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = VisionTransformer(32, 8, embed_dim=64, depth=2, num_heads=1, num_classes=0, init_values=0.5)
        self.visual_head = nn.Sequential(nn.Linear(64, 24), nn.GELU(), nn.Linear(24, 24))
        self.text = BertModel(BertConfig(**BERT | {"hidden_size": 24, "intermediate_size": 48}))
        self.logit_scale = nn.Parameter(torch.tensor(3.2189))


def keep(folder: Path) -> KEEPReference:
    """Write a folder in KEEP's format, whose layer scales transformers has renamed; return the model it holds."""
    torch.manual_seed(0)
    model = KEEPReference().eval()
    _stir(model)
    with torch.no_grad():
        for block in model.visual.blocks:
            block.ls1.gamma.uniform_(0.5, 1.5), block.ls2.gamma.uniform_(0.5, 1.5)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "keep", "projection_dim": 24, "auto_map": {"AutoModel": "modeling_keep.KEEPModel"}}
    config |= {"text_config": model.text.config.to_dict(), "vision_config": {"img_size": 32}}
    (folder / "config.json").write_text(json.dumps(config))
    state = {re.sub(r"\.(ls[12])\.gamma$", r".\1.weight", key): value for key, value in model.state_dict().items()}
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors")
    write_tokenizer(folder, BERT["vocab_size"], 77)
    return model


def convnext_clip(folder: Path, network: str = "test_convnext") -> open_clip.CLIP:
    """Write a folder in open_clip's format whose image tower is a network of timm without tokens; return the model."""
    vision = {"timm_model_name": network, "timm_pool": "", "timm_proj": "linear", "image_size": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    cfg = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    model = open_clip.CLIP(**cfg).eval()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": PREPROCESS}))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return model


def checkpoint(file: Path, family: str) -> nn.Module:
    """Write weights as a training of a family of ogkd.models.checkpoints leaves them; return open_clip's model, whose
    names they get when they are converted."""
    cfg = {
        "embed_dim": 24,
        "quick_gelu": family in ("UniMed-CLIP", "CheXzero"),
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
    }
    torch.manual_seed(0)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        if family == "UniMed-CLIP":
            (Path(made) / "config.json").write_text(json.dumps({"model_type": "bert", **BERT}))
            cfg["text_cfg"] = {
                "hf_model_name": made, "hf_model_pretrained": False, "hf_proj_type": "mlp", "context_length": 96,
                "hf_pooler_type": "cls_last_hidden_state_pooler",
            }  # fmt: skip
        model = (open_clip.CustomTextCLIP if family == "UniMed-CLIP" else open_clip.CLIP)(**cfg).eval()
    _stir(model)
    state: dict = {re.sub("^text\\.", "text_encoder.", key): value for key, value in model.state_dict().items()}
    if family == "UniMed-CLIP":
        state["text_encoder.transformer.embeddings.position_ids"] = torch.arange(96)[None]
    if family in ("UniMed-CLIP", "BMC-CLIP"):  # what a training saves beside them
        options = {"args": argparse.Namespace(lr=0.1), "best": numpy.float64(0.5), "when": datetime.date(2024, 12, 13)}
        state = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}, **options}
    torch.save(state, file)
    return model


def transformers_clip(folder: Path, seed: int = 0, attention_dropout: float = 0.0) -> CLIPModel:
    """Write a folder in PubMedCLIP's format, with the buffers that its file still has; return the model it holds.

    `attention_dropout` is the text tower's.
    """
    vocabulary = _byte_pair_tokenizer(folder)
    config = CLIPConfig(
        projection_dim=24,
        text_config={
            "vocab_size": len(vocabulary),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "max_position_embeddings": 77,
            "attention_dropout": attention_dropout,
            "bos_token_id": vocabulary["<|startoftext|>"],
            "eos_token_id": vocabulary["<|endoftext|>"],
        },
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
    )
    torch.manual_seed(seed)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2)
    _stir_norms(model)
    content = config.to_dict() | {"architectures": ["CLIPModel"]}
    (folder / "config.json").write_text(json.dumps(content))
    preprocessor = {"image_mean": PREPROCESS["mean"], "image_std": PREPROCESS["std"], "size": 32, "crop_size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    buffers = {
        "text_model.embeddings.position_ids": torch.arange(77)[None],
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
    }
    torch.save(model.state_dict() | buffers, folder / "pytorch_model.bin")
    return model


def _byte_pair_tokenizer(folder: Path) -> dict[str, int]:
    letters = list(bytes_to_unicode().values())
    merges = [("t", "h"), ("th", "e</w>"), ("c", "y"), ("cy", "s"), ("cys", "t</w>"), ("o", "f</w>")]
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return vocabulary


def open_clip_siglip(folder: Path) -> None:
    """Write a folder in open_clip's format with SigLIP's kind of towers: attention pooling, texts pooled at the end."""
    vision = {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"}
    text = {
        "context_length": 256, "vocab_size": 300, "width": 64, "heads": 2, "layers": 3, "no_causal_mask": True,
        "proj_bias": True, "pool_type": "last", "hf_tokenizer_name": "own",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }  # fmt: skip
    cfg = {"embed_dim": 64, "init_logit_bias": -10, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**cfg).eval()
    _stir(model)
    _tokenizer_without_start(folder, 256)
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    cfg |= {"custom_text": True, "text_cfg": text | {"hf_tokenizer_name": str(folder)}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": preprocess}))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")


def transformers_siglip(folder: Path) -> None:
    """Write a folder in MedSigLIP's format."""
    tower = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2}
    text = tower | {"vocab_size": 300, "max_position_embeddings": 256, "pad_token_id": 1}
    config = SiglipConfig(text_config=text, vision_config=tower | {"image_size": 32, "patch_size": 8})
    torch.manual_seed(0)
    model = SiglipModel(config).eval()
    _stir(model)
    _tokenizer_without_start(folder, 256)
    model.save_pretrained(folder)
    images = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 32, "width": 32}, "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(images))


def _stir(model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2)
            elif name.endswith(".bias"):
                parameter.normal_(0.0, 0.1)
    _stir_norms(model)


def _tokenizer_without_start(folder: Path, length: int) -> None:
    """A tokenizer of bytes that ends texts with the token that pads them, as SigLIP's does, and marks no start."""
    words = {"<unk>": 0, "</s>": 1} | {letter: 2 + i for i, letter in enumerate(bytes_to_unicode().values())}
    tokenizer = Tokenizer(models.BPE(words, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>", model_max_length=length,
        model_input_names=["input_ids"],
    )  # fmt: skip
    fast.save_pretrained(folder)


class PMCReference(nn.Module):
    """PMC-CLIP's towers under the names of its published file, with the parts of it that no feature needs."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = ModifiedResNet(layers=[1, 2, 1, 1], output_dim=24, heads=8, image_size=64, width=16)
        self.text_encoder = BertModel(BertConfig(**BERT))
        self.text_projection = nn.Parameter(torch.randn(64, 24) / 8)
        self.logit_scale = nn.Parameter(torch.tensor(4.4292))
        self.positional_embedding = nn.Parameter(torch.randn(77, 64))
        self.ln_final = nn.LayerNorm(64)
        self.mlm_projection = nn.Parameter(torch.randn(64, 1024))
        self.img_special_token = nn.Parameter(torch.zeros(1, 1, 24))
        self.fusion_module = nn.TransformerEncoderLayer(64, 2, 64)


def pmc_clip(folder: Path, seed: int = 0) -> PMCReference:
    """Write a folder with a training checkpoint in PMC-CLIP's format; return the model it holds."""
    torch.manual_seed(seed)
    model = PMCReference().eval()
    _stir_norms(model)
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    state["module.text_encoder.embeddings.position_ids"] = torch.arange(96)[None]
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = {"epoch": 3, "name": "tiny", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}
    torch.save(checkpoint, folder / "checkpoint.pt")
    config = {"embed_dim": 24, "clip_model": "PMC_CLIP", "vision_cfg": {"image_size": 64}, "text_cfg": {}}
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder, BERT["vocab_size"], 77)
    return model


def _stir_norms(model: nn.Module) -> None:
    """Give norms values as after training: at their initial ones a wrong or missing norm can go unseen."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.0, 0.2)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.8, 1.2)
