"""AVT-h as published: Girdhar and Grauman 2021, facebookresearch/AVT.

Promise: with the published sizes the published numbers of parameters; GPT-2's blocks, exactly.
Letters: B batch, T time, D feature, H width, C classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from antcache.student.heads.blocks import CausalTransformer
from antcache.student.heads.head import Head, HeadOutput, ModelShape, classifier, shifted

BLOCK_DROPOUT = 0.1
"""Dropout inside the blocks, GPT-2's own."""


class AvtHead(Head):
    """AVT-h: D -> H, GPT-2 blocks, H -> D, both projections without bias.

    The last decoded feature, after dropout, is classified. The published settings have 1,024
    positions whatever the window.
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
        self.state_dim = dim
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
        self.classifier = classifier(dim, num_classes)
        for layer in (self.encoder, self.decoder):
            nn.init.normal_(layer.weight, std=0.01)

    @classmethod
    def build(
        cls,
        shape: ModelShape,
        *,
        layers: int = 12,
        heads: int = 8,
        width: int = 2048,
        dropout: float = 0.8,
    ) -> Head:
        """See `Head`."""
        return cls(
            shape.dim,
            shape.num_classes,
            num_layers=layers,
            num_heads=heads,
            width=width,
            dropout=dropout,
            num_positions=max(1024, shape.num_frames),
        )

    def forward(self, features: Tensor, *, past: bool = False, decode: bool = False) -> HeadOutput:
        """See `Head`; the state is the last decoded feature, S = D."""
        states = self.transformer(self.encoder(features), last=not (past or decode))
        decoded = self.decoder(states)
        past_logits = None
        if past:
            past_logits = self.classifier.padded(self.dropout(shifted(features[:, 0], decoded)))
        state = decoded[:, -1]
        logits, padded = self.classifier.scored(self.dropout(state))
        decoded = decoded if decode else None
        return HeadOutput(logits, features, decoded, past_logits, state, padded_logits=padded)
