"""The default head: far smaller than AVT-h and of the same kind, indifferent to scale.

Promise: features are standardised per row and stream, so that their scale does not matter.
Letters: B batch, T time, D feature, H width, C classes, Z slots.
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
from antcache.student.heads.slots import SlotDecoder


class LightHead(Head):
    """GPT-2 blocks over standardised features.

    The classifier reads the transformer's state instead of a decoded feature, and the decoder only
    serves feature regression. With slots, a decoder makes a state for each of the next Z actions;
    the classifier reads them all, and the first is the head's state.
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
        num_slots: int | None = None,
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
        self.slots: SlotDecoder | None = None
        if num_slots is not None:
            self.slots = SlotDecoder(
                width, num_slots=num_slots, num_heads=num_heads, dropout=BLOCK_DROPOUT
            )

    @classmethod
    def build(
        cls,
        shape: ModelShape,
        *,
        layers: int = 2,
        heads: int = 8,
        width: int = 256,
        dropout: float = 0.3,
        slots: int | None = None,
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
            num_slots=slots,
        )

    def forward(self, features: Tensor, *, past: bool = False, decode: bool = False) -> HeadOutput:
        """See `Head`; the state is the transformer's last one, or the first slot's, S = H."""
        inputs = standardise(features, self.dims)
        embedded = self.encoder(inputs)
        states = self.transformer(embedded, last=not (past or decode or self.slots is not None))
        past_logits = None
        if past:
            past_logits = self.classifier.padded(self.dropout(shifted(embedded[:, 0], states)))
        slots = states[:, -1:] if self.slots is None else self.slots(states)
        state = slots[:, 0]
        logits, padded = self.classifier.scored(self.dropout(state))
        later = None if self.slots is None else self.classifier.padded(self.dropout(slots[:, 1:]))
        decoded = self.decoder(states) if decode else None
        return HeadOutput(
            logits,
            inputs,
            decoded,
            past_logits,
            state,
            padded_logits=padded,
            later_logits=later,
        )
