"""Learnable context vectors around a class name, shared by all prompt-tuning methods."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from ogkd.core import UserError
from ogkd.data.names import class_words
from ogkd.models import FrozenCLIP
from ogkd.tuning.calibration import CALIBRATION_OPTIONS
from ogkd.tuning.options import Option, Options
from ogkd.tuning.templates import check_distinct

POSITIONS = ("end", "middle", "front")
MOST_CONTEXT = 1000  # more than any text tower can read


DISTIL_OPTION = Options(
    DISTIL=Option(
        "none", "ogkd: add OGKD's two distillation terms, with the options of TRAINER.OGKD", choices=("none", "ogkd")
    )
)
PROMPT_OPTIONS = (
    Options(
        N_CTX=Option(4, "number of context vectors", least=1, most=MOST_CONTEXT),
        CTX_INIT=Option("a photo of a", 'words they start from; "" starts them at random'),
        CSC=Option(False, "class-specific contexts, which always start at random"),
        CLASS_TOKEN_POSITION=Option("end", "position of the class name", choices=POSITIONS),
        TEXT_DROPOUT=Option(0.0, "dropout rate of the student's text tower in training", least=0, below=1),
    )
    | DISTIL_OPTION
    | CALIBRATION_OPTIONS
)
"""The options of every method that learns a prompt."""


class PromptLearner(nn.Module):
    """Context vectors V and the sentences that they form with each class name (Zhou et al., CoOp, IJCV 2022).

    A sentence is `[start] V_1 .. V_n <class name> . [end]`, without a start where the tokenizer has none; with position
    "middle" the name comes after the first half of the context, with "front" before all of it. `ctx`, (n_ctx, width) or
    class-specific (C, n_ctx, width), is the only parameter and the only entry of the state dict. `dropout` is the text
    tower's dropout rate while the learner is in train mode. `ending` is what comes after the context.
    """

    positions: tuple[str, ...] = POSITIONS
    keeps_words = False  # do tokens of `ctx_init` that have no vector stay as words, or are they an error?
    prefix: Tensor
    suffix: Tensor
    mask: Tensor
    order: Tensor | None

    def __init__(
        self,
        model: FrozenCLIP,
        classnames: Sequence[str],
        n_ctx: int = 4,
        ctx_init: str = "a photo of a",
        csc: bool = False,
        position: str = "end",
        dropout: float = 0.0,
        ending: str = "{}.",
    ) -> None:
        super().__init__()
        if n_ctx < 1:
            raise UserError(f"N_CTX is {n_ctx}, but a prompt needs at least 1 context vector.")
        if position not in self.positions:
            raise UserError(f"CLASS_TOKEN_POSITION is '{position}'; it can be {', '.join(self.positions)}.")
        if dropout > 0 and not model.has_text_dropout:
            _say_that_nothing_drops(model.name)
        self.dropout = dropout
        names = [class_words(name) for name in classnames]
        self.n_ctx, self.n_cls = n_ctx, len(names)
        ctx, words = self._initial_context(model, n_ctx, ctx_init, csc, len(names))
        self.ctx = nn.Parameter(ctx)

        endings = [ending.replace("{}", name) for name in names]
        check_distinct(model, classnames, [[text] for text in endings])
        tokens = model.tokenize(endings)
        length = tokens.ids.shape[1] + n_ctx + len(words)
        if length > model.context_length:
            longest = names[int(tokens.mask.sum(1).argmax())]
            raise UserError(
                f"The prompt of class '{longest}' has {length} tokens, but {model.name} reads {model.context_length}: "
                f"shorten the class name or lower N_CTX."
            )
        embedded = model.embed(tokens.ids)
        context_mask = tokens.mask.new_ones(len(names), n_ctx + len(words))
        self.start = model.text_frame[0]
        suffix = torch.cat([words.expand(len(names), -1, -1), embedded[:, self.start :]], dim=1)
        self.register_buffer("prefix", embedded[:, : self.start], persistent=False)
        self.register_buffer("suffix", suffix, persistent=False)
        self.register_buffer("mask", torch.cat([context_mask, tokens.mask], dim=1), persistent=False)
        self.register_buffer("order", self._order(model, names, position, length, len(words)), persistent=False)

    @classmethod
    def of(cls, model: FrozenCLIP, classnames: Sequence[str], options: CfgNode, **more: Any) -> Any:
        """The prompt learner described by a method's options (PROMPT_OPTIONS), with `more` arguments of its own."""
        return cls(
            model, classnames, options.N_CTX, options.CTX_INIT, options.CSC, options.CLASS_TOKEN_POSITION,
            options.TEXT_DROPOUT, **more,
        )  # fmt: skip

    @property
    def text_dropout(self) -> float:
        """The current dropout rate for `encode_text`: 0 outside train mode."""
        return self.dropout if self.training else 0.0

    def _initial_context(
        self, model: FrozenCLIP, n_ctx: int, words: str, csc: bool, n_cls: int
    ) -> tuple[Tensor, Tensor]:
        """Vectors (n_ctx, width) or (C, n_ctx, width), and the embedded words (k, width) that stay behind them."""
        if csc or not words:
            shape = (n_cls, n_ctx, model.context_width) if csc else (n_ctx, model.context_width)
            context = torch.empty(shape).normal_(std=0.02).to(model.device)
            return context, context.new_empty(0, model.context_width)
        tokens = model.tokenize([words])
        start, end = model.text_frame
        count = int(tokens.mask.sum()) - start - end
        if count < n_ctx or (count > n_ctx and not self.keeps_words):
            raise UserError(
                f"CTX_INIT '{words}' has {count} tokens but N_CTX is {n_ctx}: "
                f'give as many words as context vectors, or CTX_INIT "" for a random start.'
            )
        embedded = model.embed(tokens.ids)[0, start : start + count]
        return embedded[:n_ctx].clone(), embedded[n_ctx:]

    def _order(self, model: FrozenCLIP, names: list[str], position: str, length: int, words: int) -> Tensor | None:
        """(C, L) indices into the sequence [start, context, words, name, rest]; None if the order stays as it is."""
        if position == "end":
            return None
        start, end = model.text_frame
        first = start + self.n_ctx + words
        lengths = (model.tokenize(names).mask.sum(1) - start - end).tolist()
        rows = []
        for name_length in lengths:
            moved = self._moved(range(first, first + name_length), position)
            there = [place for place in range(length) if place not in moved]
            before = start + (self.n_ctx // 2 if position != "front" else 0)
            rows.append([*there[:before], *moved, *there[before:]])
        return torch.tensor(rows, device=model.device)

    def _moved(self, name: range, position: str) -> range:
        """The places of the tokens that are put into another position, given those of a class's name."""
        return name

    def context_positions(self) -> Tensor:
        """Positions of the context vectors in each class's sentence, (C, n_ctx)."""
        first = torch.arange(self.start, self.start + self.n_ctx, device=self.mask.device)
        if self.order is None:
            return first.expand(self.n_cls, -1)
        return (self.order[:, None] == first[:, None]).long().argmax(-1)

    def assemble(self, ctx: Tensor) -> Tensor:
        """Put contexts (..., C, n_ctx, width) into the class sentences: (..., C, L, width)."""
        lead = ctx.shape[:-2]
        prefix, suffix = (part.expand(*lead, *part.shape[-2:]) for part in (self.prefix, self.suffix))
        sequence = torch.cat([prefix, ctx, suffix], dim=-2)
        if self.order is None:
            return sequence
        return sequence.gather(-2, self.order[..., None].expand_as(sequence))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Embedded sentences (C, L, width) and the mask of their real tokens (C, L)."""
        ctx = self.ctx if self.ctx.dim() == 3 else self.ctx.expand(self.n_cls, -1, -1)
        return self.assemble(ctx), self.mask


@cache
def _say_that_nothing_drops(model: str) -> None:
    """Print, once per process and model, that its text tower has no dropout."""
    print(f"The text tower of {model} has no dropout, so TEXT_DROPOUT has no effect.")
