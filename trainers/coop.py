"""CoOp: learn the context of a prompt by cross entropy (Zhou et al., IJCV 2022, arXiv 2109.01134)."""

from __future__ import annotations

from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.registration import register


@register
class CoOp(PromptMethod):
    """Total loss: CE, as in every prompt method."""

    title, paper, row = "CoOp", "2109.01134", 80
