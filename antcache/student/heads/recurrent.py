"""Recurrent baselines: a GRU, and the rolling and unrolling LSTMs of RULSTM.

Promise: states at t depend on frames up to t alone; features are standardised per row and stream.
Letters: B batch, T time, D feature, H width, C classes.
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


class GruHead(Head):
    """A GRU over embedded features (Cho et al. 2014); its last state is classified."""

    def __init__(
        self,
        dims: tuple[int, ...],
        num_classes: int,
        *,
        num_layers: int,
        width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.state_dim = width
        self.encoder = nn.Linear(sum(dims), width)
        self.gru = nn.GRU(width, width, num_layers=num_layers, batch_first=True)
        self.decoder = nn.Linear(width, sum(dims))
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier(width, num_classes)

    @classmethod
    def build(
        cls, shape: ModelShape, *, layers: int = 1, width: int = 512, dropout: float = 0.5
    ) -> Head:
        """See `Head`."""
        return cls(
            shape.dims,
            shape.num_classes,
            num_layers=layers,
            width=width,
            dropout=dropout,
        )

    def forward(self, features: Tensor, *, past: bool = False, decode: bool = False) -> HeadOutput:
        """See `Head`; the state is the GRU's last one, S = H."""
        inputs = standardise(features, self.dims)
        embedded = self.encoder(inputs)
        states, _ = self.gru(embedded)
        past_logits = None
        if past:
            past_logits = self.classifier.padded(self.dropout(shifted(embedded[:, 0], states)))
        state = states[:, -1]
        logits, padded = self.classifier.scored(self.dropout(state))
        decoded = self.decoder(states) if decode else None
        return HeadOutput(logits, inputs, decoded, past_logits, state, padded_logits=padded)


class RulstmHead(Head):
    """Rolling-Unrolling LSTM (Furnari and Farinella 2019 and 2020; fpv-iplab/rulstm).

    The rolling LSTM encodes the frames. From its state the unrolling LSTM runs on, fed the last
    frame again for each step up to the action's start and once more; its last state is classified.
    Dropout is on the features, too. The size is the published one unless another is given.

    What is simpler than published: no sequence-completion pre-training; the loss is taken from the
    last frame alone, not from every anticipation time; features are standardised; several streams
    are fused as `ModelConfig.fusion` says, by branches trained together. The action at a past
    frame is scored by one unrolling step from the frame before it, and the next feature is decoded
    from the rolling state: RULSTM has neither.
    """

    def __init__(
        self,
        dims: tuple[int, ...],
        num_classes: int,
        *,
        num_layers: int,
        width: int,
        dropout: float,
        steps_ahead: int,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.state_dim = width
        self.num_steps = steps_ahead + 1
        dim, between = sum(dims), dropout if num_layers > 1 else 0.0
        self.rolling = nn.LSTM(dim, width, num_layers, batch_first=True, dropout=between)
        self.unrolling = nn.LSTM(dim, width, num_layers, batch_first=True, dropout=between)
        self.decoder = nn.Linear(width, dim)
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier(width, num_classes)

    @classmethod
    def build(
        cls, shape: ModelShape, *, layers: int = 1, width: int = 1024, dropout: float = 0.8
    ) -> Head:
        """See `Head`."""
        return cls(
            shape.dims,
            shape.num_classes,
            num_layers=layers,
            width=width,
            dropout=dropout,
            steps_ahead=shape.steps_ahead,
        )

    def forward(self, features: Tensor, *, past: bool = False, decode: bool = False) -> HeadOutput:
        """See `Head`; the state is the last one after unrolling, S = H."""
        inputs = standardise(features, self.dims)
        kept = self.dropout(inputs)
        if past:
            states, ahead, memory = self._roll(kept)
            past_logits = self.classifier.padded(self.dropout(shifted(states[:, 0], ahead)))
        else:
            states, memory = self.rolling(kept)
            past_logits = None
        steps = self.dropout(inputs[:, -1:].expand(-1, self.num_steps, -1))
        unrolled, _ = self.unrolling(steps, memory)
        state = unrolled[:, -1]
        logits, padded = self.classifier.scored(self.dropout(state))
        decoded = self.decoder(states) if decode else None
        return HeadOutput(logits, inputs, decoded, past_logits, state, padded_logits=padded)

    def _roll(self, kept: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Rolling states (B, T, H), the same after one unrolling step each, and the last memory."""
        states, ahead = [], []
        memory: tuple[Tensor, Tensor] | None = None
        for t in range(kept.shape[1]):
            frame = kept[:, t : t + 1]
            state, memory = self.rolling(frame, memory)
            states.append(state)
            ahead.append(self.unrolling(frame, memory)[0])
        assert memory is not None
        return torch.cat(states, dim=1), torch.cat(ahead, dim=1), memory
