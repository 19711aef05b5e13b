"""A trained prompt as one ONNX file, which classifies without PyTorch: image tower and classifier.

Its input `pixels` (B, 3, H, W) float32 is RGB from 0 to 1, resized, cropped and normalised as its metadata say; its
output `logits` (B, C). Texts are encoded once, when the file is written.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ogkd.core import UserError, atomic_path, first_line
from ogkd.core.places import install_command
from ogkd.predict.predictor import Predictor

NAME = "model.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # largest difference of a logit that a file may have
BATCHES = (1, 3)  # images at a time for which the file is checked


def require_packages() -> None:
    """Raise UserError if a package of the extra is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"An ONNX file needs the package {missing[0]}: {install_command('onnx')}.")


class _Logits(nn.Module):
    """Pixels to logits, as one module to trace."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.towers, self.method = predictor.model, predictor.method
        with torch.no_grad():
            self.classify = self.method.classifier()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.classify(self.method.encode(pixels).global_token)


def write_onnx(predictor: Predictor, target: Path) -> None:
    """Write the file.

    The file is run before it is put in its place: its logits of random images, one and several at a time, must be those
    of PyTorch to `TOLERANCE`.

    Raises:
        UserError: the method makes texts for each image, its towers cannot be expressed in ONNX, or a package is
            missing.
    """
    require_packages()
    name = predictor.prompt.method
    if predictor.method.texts_per_image:
        raise UserError(
            f"{name} encodes texts of its own for each image, which the file would have to contain as a whole text "
            "tower: leave out --onnx, or use a method whose prompt is the same for all images."
        )
    module, side = _Logits(predictor).eval(), predictor.model.image_size
    images = [torch.rand(count, 3, side, side, device=predictor.device) for count in (2, *BATCHES)]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                module,
                (images[0],),
                dynamo=True,
                verbose=False,
                input_names=["pixels"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        program.model.metadata_props.update(_metadata(predictor))
        with atomic_path(target) as temporary:
            program.save(temporary)
            _check(temporary, module, images[1:])
    except UserError:
        raise
    except Exception as error:  # the exporter's and the runtime's errors depend on their versions
        raise UserError(
            f"{name} on {predictor.prompt.backbone} cannot be written as ONNX ({first_line(error)}): leave out --onnx."
        ) from error


def _metadata(predictor: Predictor) -> dict[str, str]:
    """What a program needs to use the file, as JSON values."""
    settings, prompt = predictor.prompt.config["INPUT"], predictor.prompt
    content = {
        "classes": list(predictor.classnames),
        "size": list(settings["SIZE"]),
        "resize": settings["RESIZE"] or "shortest",
        "interpolation": settings["INTERPOLATION"],
        "mean": list(settings["PIXEL_MEAN"]),
        "std": list(settings["PIXEL_STD"]),
        "logit_scale": predictor.method.scale,
        "temperature": prompt.temperature,
        "method": prompt.method,
        "backbone": Path(prompt.backbone).name,
        "fingerprint": prompt.fingerprint,
        "note": "Research software, not a medical device.",
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in content.items()}


def _check(path: Path, module: nn.Module, batches: list[Tensor]) -> None:
    """Raise UserError if a file's logits are not those of the module."""
    from onnxruntime import InferenceSession

    session = InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for pixels in batches:
        (logits,) = session.run(None, {"pixels": pixels.cpu().numpy()})
        with torch.no_grad():
            difference = np.abs(np.asarray(logits) - module(pixels).float().cpu().numpy()).max()
        if not difference <= TOLERANCE:
            raise UserError(
                f"The ONNX file gives logits that differ by {difference:.2g} from PyTorch's, so it was not written: "
                "leave out --onnx, or use another version of PyTorch."
            )
