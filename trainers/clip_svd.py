"""CLIP-SVD: the singular values of both towers' weight matrices (Koleilat et al., TMLR 2026, arXiv 2509.03740)."""

from __future__ import annotations

from functools import partial

from ogkd.core import UserError
from ogkd.tuning.edits import Edits, SingularValues, block_layers
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.tower_method import EditMethod


@register
class CLIPSVD(EditMethod):
    """Cross entropy. Every matrix W = U diag(s) V' inside the layers, queries, keys and values apart, becomes
    U diag(s + delta) V'; delta is learned, as if s were."""

    title, paper, row = "CLIP-SVD", "2509.03740", 78
    options = EditMethod.options | Options(
        FIRST_LAYER=Option(0, "the first layer of both towers, from 0, whose matrices change", least=0)
    )

    def make_edits(self) -> Edits:
        model, first = self.clip_model, self.options.FIRST_LAYER
        layers = min(model.vision_layers, model.text_layers)
        if first >= layers:
            raise UserError(f"The option FIRST_LAYER is {first}, but with {model.name} it is at most {layers - 1}.")
        make = partial(SingularValues, cache=self.feature_cache)
        return Edits(model, make, block_layers(model, first))
