"""The simplest baseline: the mean of a window's features, classified linearly.

Promise: the order of the frames does not matter; whatever beats it, beats it by using the order.
Letters: B batch, T time, D feature, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from antcache.student.heads.head import (
    Head,
    HeadOutput,
    ModelShape,
    classifier,
    shifted,
    standardise,
)


class MeanHead(Head):
    """Mean of the standardised features so far, dropout, and a linear classifier.

    The next feature is expected to be a linear function of that mean. Much dropout unless another
    is given: a linear classifier over D features and thousands of classes has many more weights
    than an EPIC-KITCHENS split has segments.
    """

    def __init__(self, dims: tuple[int, ...], num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.dims = dims
        self.state_dim = sum(dims)
        self.decoder = nn.Linear(self.state_dim, self.state_dim)
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier(self.state_dim, num_classes)

    @classmethod
    def build(cls, shape: ModelShape, *, dropout: float = 0.5) -> Head:
        """See `Head`."""
        return cls(shape.dims, shape.num_classes, dropout=dropout)

    def forward(self, features: Tensor, *, past: bool = False, decode: bool = False) -> HeadOutput:
        """See `Head`; the state is the mean, S = D."""
        inputs = standardise(features, self.dims)
        seen = torch.arange(1, inputs.shape[1] + 1, device=inputs.device, dtype=inputs.dtype)
        states = inputs.cumsum(dim=1) / seen[:, None]
        past_logits = None
        if past:
            past_logits = self.classifier.padded(self.dropout(shifted(inputs[:, 0], states)))
        state = states[:, -1]
        logits, padded = self.classifier.scored(self.dropout(state))
        decoded = self.decoder(states) if decode else None
        return HeadOutput(logits, inputs, decoded, past_logits, state, padded_logits=padded)
