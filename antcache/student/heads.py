"""Heads: what stands between the features of a window and the scores of the next action.

Promise: every head takes features (B, T, D) and gives a `HeadOutput`; its output at time t depends
on inputs up to t alone. `HEADS` names them; a head of one's own is a subclass of `Head` and one
entry there. Letters: B batch, T time, D feature, H width, C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antcache.errors import BadConfig
from antcache.student.blocks import CausalTransformer
from antcache.student.config import StudentConfig

BLOCK_DROPOUT = 0.1
"""Dropout inside the blocks, GPT-2's own."""


class HeadOutput(NamedTuple):
    """What a head makes of a batch of windows.

    Attributes:
        logits: (B, C) scores of the next action.
        inputs: (B, T, D) features as the head reads them.
        decoded: (B, T, D), at t the expectation of `inputs` at t + 1.
        past_logits: (B, T, C) scores of the action at each frame, from what was seen before it
            (at t = 0 from the frame itself), or None where they were not asked for.
    """

    logits: Tensor
    inputs: Tensor
    decoded: Tensor
    past_logits: Tensor | None


class Head(nn.Module):
    """Base of all heads: built from the sizes of a problem and a config."""

    @classmethod
    @abstractmethod
    def build(cls, config: StudentConfig, *, dim: int, num_classes: int, num_frames: int) -> Head:
        """A head for features of width `dim`, windows of `num_frames` and `num_classes` actions."""

    @abstractmethod
    def forward(self, features: Tensor, *, past: bool = False) -> HeadOutput:
        """Anticipate from float32 `features` (B, T, D); `past` asks for `past_logits`."""


class AvtHead(Head):
    """AVT-h as published (Girdhar and Grauman 2021; facebookresearch/AVT).

    D -> H, GPT-2 blocks, H -> D, both projections without bias; the last decoded feature, after
    dropout, is classified. The published settings have 1,024 positions whatever the window.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        num_layers: int,
        num_heads: int,
        width: int,
        dropout: float,
        num_positions: int = 1024,
    ) -> None:
        super().__init__()
        self.encoder = nn.Linear(dim, width, bias=False)
        self.transformer = CausalTransformer(
            width,
            num_layers=num_layers,
            num_heads=num_heads,
            num_positions=num_positions,
            dropout=BLOCK_DROPOUT,
            attention_dropout=BLOCK_DROPOUT,
        )
        self.decoder = nn.Linear(width, dim, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(dim, num_classes)
        for layer in (self.encoder, self.decoder, self.classifier):
            nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def build(cls, config: StudentConfig, *, dim: int, num_classes: int, num_frames: int) -> Head:
        """See `Head`; 12 layers, 8 heads, 2,048 wide and dropout 0.8 unless configured."""
        return cls(
            dim,
            num_classes,
            num_layers=config.layers or 12,
            num_heads=config.heads or 8,
            width=config.width or 2048,
            dropout=0.8 if config.dropout is None else config.dropout,
            num_positions=max(1024, num_frames),
        )

    def forward(self, features: Tensor, *, past: bool = False) -> HeadOutput:
        """See `Head`."""
        decoded = self.decoder(self.transformer(self.encoder(features)))
        past_logits = None
        if past:
            shifted = torch.cat([features[:, :1], decoded[:, :-1]], dim=1)
            past_logits = self.classifier(self.dropout(shifted))
        logits = self.classifier(self.dropout(decoded[:, -1]))
        return HeadOutput(logits, features, decoded, past_logits)


class LightHead(Head):
    """A far smaller head of the same kind that does not depend on the scale of the features.

    Features are standardised per row, the classifier reads the transformer's state instead of a
    decoded feature, and the decoder only serves feature regression.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        num_layers: int,
        num_heads: int,
        width: int,
        dropout: float,
        num_positions: int,
    ) -> None:
        super().__init__()
        self.encoder = nn.Linear(dim, width)
        self.transformer = CausalTransformer(
            width,
            num_layers=num_layers,
            num_heads=num_heads,
            num_positions=num_positions,
            dropout=BLOCK_DROPOUT,
            attention_dropout=0.0,  # with it CPUs lose their fused attention
        )
        self.decoder = nn.Linear(width, dim)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def build(cls, config: StudentConfig, *, dim: int, num_classes: int, num_frames: int) -> Head:
        """See `Head`; 4 layers, 8 heads, 512 wide and dropout 0.3 unless configured."""
        return cls(
            dim,
            num_classes,
            num_layers=config.layers or 4,
            num_heads=config.heads or 8,
            width=config.width or 512,
            dropout=0.3 if config.dropout is None else config.dropout,
            num_positions=num_frames,
        )

    def forward(self, features: Tensor, *, past: bool = False) -> HeadOutput:
        """See `Head`."""
        inputs = F.layer_norm(features, features.shape[-1:])
        embedded = self.encoder(inputs)
        states = self.transformer(embedded)
        past_logits = None
        if past:
            shifted = torch.cat([embedded[:, :1], states[:, :-1]], dim=1)
            past_logits = self.classifier(self.dropout(shifted))
        logits = self.classifier(self.dropout(states[:, -1]))
        return HeadOutput(logits, inputs, self.decoder(states), past_logits)


HEADS: dict[str, type[Head]] = {"avth": AvtHead, "light": LightHead}
"""Heads by the name that `--head` takes."""


def build_head(config: StudentConfig, *, dim: int, num_classes: int, num_frames: int) -> Head:
    """The head that `config` names, with initial weights from PyTorch's current random state.

    Raises:
        BadConfig: there is no such head, or its sizes are impossible.
    """
    if config.head not in HEADS:
        raise BadConfig("unknown head", expected=" or ".join(HEADS), found=config.head)
    return HEADS[config.head].build(config, dim=dim, num_classes=num_classes, num_frames=num_frames)
