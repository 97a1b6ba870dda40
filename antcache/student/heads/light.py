"""The default head: far smaller than AVT-h and of the same kind, indifferent to scale.

Promise: features are standardised per row and stream, so that their scale does not matter.
Letters: B batch, T time, D feature, H width, C classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from antcache.student.heads.avth import BLOCK_DROPOUT
from antcache.student.heads.blocks import CausalTransformer
from antcache.student.heads.head import (
    Head,
    HeadOutput,
    ModelShape,
    classifier,
    shifted,
    standardise,
)


class LightHead(Head):
    """GPT-2 blocks over standardised features.

    The classifier reads the transformer's state instead of a decoded feature, and the decoder only
    serves feature regression.
    """

    def __init__(
        self,
        dims: tuple[int, ...],
        num_classes: int,
        *,
        num_layers: int,
        num_heads: int,
        width: int,
        dropout: float,
        num_positions: int,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.state_dim = width
        self.encoder = nn.Linear(sum(dims), width)
        self.transformer = CausalTransformer(
            width,
            num_layers=num_layers,
            num_heads=num_heads,
            num_positions=num_positions,
            dropout=BLOCK_DROPOUT,
            attention_dropout=0.0,  # with it CPUs lose their fused attention
        )
        self.decoder = nn.Linear(width, sum(dims))
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier(width, num_classes)

    @classmethod
    def build(
        cls,
        shape: ModelShape,
        *,
        layers: int = 2,
        heads: int = 8,
        width: int = 256,
        dropout: float = 0.3,
    ) -> Head:
        """See `Head`."""
        return cls(
            shape.dims,
            shape.num_classes,
            num_layers=layers,
            num_heads=heads,
            width=width,
            dropout=dropout,
            num_positions=shape.num_frames,
        )

    def forward(self, features: Tensor, *, past: bool = False, decode: bool = False) -> HeadOutput:
        """See `Head`; the state is the transformer's last one, S = H."""
        inputs = standardise(features, self.dims)
        embedded = self.encoder(inputs)
        states = self.transformer(embedded, last=not (past or decode))
        past_logits = None
        if past:
            past_logits = self.classifier.padded(self.dropout(shifted(embedded[:, 0], states)))
        state = states[:, -1]
        logits, padded = self.classifier.scored(self.dropout(state))
        decoded = self.decoder(states) if decode else None
        return HeadOutput(logits, inputs, decoded, past_logits, state, padded_logits=padded)
