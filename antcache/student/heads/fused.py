"""Late fusion: one branch of a head per feature stream, and their scores brought together.

Promise: a branch sees its own stream alone, and the output keeps the protocol of heads.
Letters: B batch, T time, D feature, S state, C classes, R streams.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from antcache.student.heads.head import Head, HeadOutput, ModelShape


class FusedHead(Head):
    """Branches over R streams; logits are averaged, evenly or by attention, those of verb and noun
    with the action's weights, where branches give them.

    With attention each window weighs the branches by a softmax over a linear function of all their
    states: RULSTM's modality attention (Furnari and Farinella 2019) in one layer and trained with
    the branches, not after them. It begins with equal weights. Scores of past frames are averaged
    evenly in either case.

    Args:
        branches: one head per stream, in the order in which the features lie side by side.
        dims: width of each stream.
        attention: learn the weights.
    """

    def __init__(self, branches: list[Head], dims: tuple[int, ...], *, attention: bool) -> None:
        super().__init__()
        self.dims = dims
        self.state_dim = sum(branch.state_dim for branch in branches)
        self.per_frame = all(branch.per_frame for branch in branches)
        self.verb_noun = all(branch.verb_noun for branch in branches)
        self.branches = nn.ModuleList(branches)
        self.attention: nn.Module | None = None
        if attention:
            scores = nn.Linear(self.state_dim, len(branches))
            nn.init.zeros_(scores.weight)
            nn.init.zeros_(scores.bias)
            self.attention = nn.Sequential(nn.LayerNorm(self.state_dim), scores)

    @classmethod
    def around(
        cls, build: Callable[[ModelShape], Head], shape: ModelShape, *, attention: bool = False
    ) -> Head:
        """A branch that `build` makes for each stream of `shape`."""
        branches = [build(replace(shape, dims=(dim,))) for dim in shape.dims]
        return cls(branches, shape.dims, attention=attention)

    def forward(self, features: Tensor, *, past: bool = False, decode: bool = False) -> HeadOutput:
        """See `Head`; the state is that of all branches side by side."""
        parts = torch.split(features, list(self.dims), dim=-1)
        outputs = [
            branch(part, past=past, decode=decode)
            for branch, part in zip(self.branches, parts, strict=True)
        ]
        state = torch.cat([output.state for output in outputs], dim=-1)
        share = None if self.attention is None else self.attention(state).softmax(dim=-1)
        fused = _fused([output.scores for output in outputs], share)
        verb, noun, past_logits, decoded = None, None, None, None
        if self.verb_noun:
            verb = _fused([output.verb_logits for output in outputs], share)
            noun = _fused([output.noun_logits for output in outputs], share)
        if past:
            past_logits = torch.stack([output.past_logits for output in outputs]).mean(dim=0)
        if decode:
            decoded = torch.cat([output.decoded for output in outputs], dim=-1)
        return HeadOutput(
            fused[:, : outputs[0].logits.shape[1]],
            torch.cat([output.inputs for output in outputs], dim=-1),
            decoded,
            past_logits,
            state,
            verb_logits=verb,
            noun_logits=noun,
            padded_logits=fused,
        )


def _fused(logits: list[Tensor], share: Tensor | None) -> Tensor:
    """Mean (B, C) of the logits (B, C) of R branches, weighed by `share` (B, R) if given."""
    stacked = torch.stack(logits, dim=1)
    return stacked.mean(dim=1) if share is None else (share[..., None] * stacked).sum(dim=1)
