"""The precision of the frozen towers: fp32, or bf16 for matrix products on devices that support it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ogkd.core import UserError
from ogkd.models import FrozenCLIP, ImageFeatures
from ogkd.models.packed_bert import PackedBert

FP32, BF16 = PRECISIONS = ("fp32", "bf16")
AMPERE = (8, 0)  # the first CUDA capability with bf16


def has_bf16(device: torch.device) -> bool:
    """Whether a device has native bf16 matrix products: a CPU with AVX-512 BF16 or AMX, a GPU since Ampere.

    A CPU that PyTorch is set to use below AVX-512 (ATEN_CPU_CAPABILITY) counts as one without.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def at_precision(model: FrozenCLIP, precision: str, packed: bool = False) -> FrozenCLIP:
    """`model` itself in fp32, or a view of it that computes in bf16; with `packed`, a view whose text tower is a
    PackedBert where that is possible.

    Raises:
        UserError: the model's device has no bf16.
    """
    packed = packed and PackedBert.supports(model.text_tower)
    if precision == FP32 and not packed:
        return model
    if precision == BF16 and not has_bf16(model.device):
        what = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "this CPU"
        raise UserError(
            f"FEATURES.PRECISION is bf16, but {what} has no bf16 (it needs AVX-512 BF16, AMX, or a GPU since Ampere): "
            f"leave it at fp32."
        )
    views = _views.setdefault(model, {})
    if (precision, packed) not in views:
        views[precision, packed] = LowPrecisionCLIP(model, packed) if precision == BF16 else _packed(model)
    return cast(FrozenCLIP, views[precision, packed])


def _packed(model: FrozenCLIP) -> FrozenCLIP:
    other = model.sharing_weights()
    other.text_tower = PackedBert(other.text_tower, torch.float32)
    return other


class AutocastCLIP:
    """A frozen model with FrozenCLIP's interface whose towers compute matrix products in bf16; outputs are fp32.

    Normalisation, softmax and residual sums are in fp32, as in autocast.
    """

    precision = BF16

    def __init__(self, model: FrozenCLIP) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        if name == "_model":  # not made yet, as while unpickling
            raise AttributeError(name)
        return getattr(self._model, name)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._model.device.type, dtype=torch.bfloat16)

    def encode_image(self, *args: Any, **kwargs: Any) -> ImageFeatures:
        """As FrozenCLIP.encode_image."""
        with self._autocast():
            out = self._model.encode_image(*args, **kwargs)
        patches = out.patch_tokens
        return ImageFeatures(out.global_token.float(), None if patches is None else patches.float())

    def encode_text(self, *args: Any, **kwargs: Any) -> Tensor:
        """As FrozenCLIP.encode_text."""
        on_cpu = self._model.device.type == "cpu"
        # On texts this short, the backward pass of the CPU's fused attention takes a fifth of a bf16 step.
        with self._autocast(), sdpa_kernel(SDPBackend.MATH) if on_cpu else nullcontext():
            return self._model.encode_text(*args, **kwargs).float()


class LowPrecisionCLIP(AutocastCLIP):
    """An AutocastCLIP that also keeps the weights of linear layers in bf16, so that no pass converts them; everything
    else is shared with the fp32 model. Its edited copies start from the fp32 weights."""

    def __init__(self, model: FrozenCLIP, packed: bool = False) -> None:
        super().__init__(model.sharing_weights())
        for layer in self._model.modules():
            if isinstance(layer, nn.Linear):
                for name, parameter in list(layer.named_parameters(recurse=False)):
                    setattr(layer, name, nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False))
        if packed:
            self._model.text_tower = PackedBert(self._model.text_tower, torch.bfloat16)
        self._full = model.sharing_weights()  # not the model, the key of _views, which it would keep alive

    def linear_layers(self) -> dict[str, tuple[nn.Module, str]]:
        """As FrozenCLIP.linear_layers."""
        return self._full.linear_layers()

    def edited(self, edits: Mapping[str, nn.Module]) -> AutocastCLIP:
        """As FrozenCLIP.edited."""
        return AutocastCLIP(self._full.edited(edits))


_views: weakref.WeakKeyDictionary[FrozenCLIP, dict[tuple[str, bool], object]] = weakref.WeakKeyDictionary()
