"""The attentive probe of V-JEPA 2: what a frozen backbone's tokens say of verb, noun and action.

Promise: with the same weights the logits are those of the published probe (Assran et al. 2025,
facebookresearch/vjepa2, its frozen evaluation of action anticipation). Features are taken as they
come, neither standardised nor projected, and nothing is dropped.
Letters: B batch, T frames, K tokens of a row, N tokens of a window, D feature, H heads, Q queries,
C classes.

The tokens of a window are those of all its rows side by side, N = T * K; a row of one vector is one
token. Every token attends to every other, whichever came first: all of them were seen before the
window ends, but of a past frame there are no scores. There are no positions either: order is what
the backbone has put into its tokens.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antcache.checks import at_least
from antcache.errors import BadConfig
from antcache.student.heads.blocks import INITIAL_STD, attention, by_head
from antcache.student.heads.head import Classifier, Head, HeadOutput, ModelShape

L = TypeVar("L", bound=nn.Linear)

MLP_RATIO = 4
"""Width of the hidden layer of an MLP over D."""


class ProbeBlock(nn.Module):
    """`x + attention(x, tokens)`, then `x + mlp(norm(x))`.

    Tokens that attend to themselves are normalised first, and what they find goes through a
    projection; queries are taken as they are, look at normalised tokens, and have no projection.

    Args:
        width: D.
        num_heads: H, which divides D.
        depth: i, from 1: output projections begin 1 / sqrt(2 i) as large.
        crossed: whether queries attend to tokens.
    """

    def __init__(self, width: int, num_heads: int, depth: int, *, crossed: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.attention_out = None if crossed else nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, MLP_RATIO * width)
        self.mlp_out = nn.Linear(MLP_RATIO * width, width)
        for layer in (self.query, self.key_value, self.mlp_in):
            begin(layer)
        begin(self.mlp_out, 1 / math.sqrt(2 * depth))
        if self.attention_out is not None:
            begin(self.attention_out, 1 / math.sqrt(2 * depth))

    def forward(self, x: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Tokens (B, N, D) among themselves, or queries (B, Q, D) to `tokens`; as `x` in shape."""
        normed = self.norm_1(x if tokens is None else tokens)
        query = self.query(normed if tokens is None else x)
        key, value = self.key_value(normed).chunk(2, dim=-1)
        parts = [by_head(part, self.num_heads) for part in (query, key, value)]
        mixed = attention(*parts, dropout_p=0.0, is_causal=False).transpose(1, 2).flatten(2)
        x = x + (mixed if self.attention_out is None else self.attention_out(mixed))
        found: Tensor = x + self.mlp_out(F.gelu(self.mlp_in(self.norm_2(x))))
        return found


class ProbeHead(Head):
    """Self-attention blocks over tokens, then learned queries that attend to them once.

    Verb, noun and action have a query and a linear classifier each; where the shape has no verbs
    and nouns, the action alone.

    Raises:
        BadConfig: the width of the features is not a multiple of the heads.
    """

    per_frame = False
    takes_tokens = True

    def __init__(self, shape: ModelShape, *, num_layers: int, num_heads: int) -> None:
        super().__init__()
        at_least("layers", num_layers, 1)
        at_least("heads", num_heads, 1)
        if shape.dim % num_heads:
            raise BadConfig(
                "the probe is as wide as the features, which its heads can't share evenly",
                expected=f"a multiple of the {num_heads} heads",
                found=shape.dim,
                hint="give a number of heads that divides it: `heads`",
            )
        self.state_dim = shape.dim
        self.verb_noun = bool(shape.num_verbs and shape.num_nouns)
        self.blocks = nn.ModuleList(
            ProbeBlock(shape.dim, num_heads, depth) for depth in range(1, num_layers + 1)
        )
        self.cross = ProbeBlock(shape.dim, num_heads, num_layers, crossed=True)
        self.queries = nn.Parameter(torch.empty(3 if self.verb_noun else 1, shape.dim))
        nn.init.trunc_normal_(self.queries, std=INITIAL_STD)
        self.classifier = begin(Classifier(shape.dim, shape.num_classes))
        self.verb: nn.Linear | None = None
        self.noun: nn.Linear | None = None
        if self.verb_noun:
            self.verb = begin(nn.Linear(shape.dim, shape.num_verbs))
            self.noun = begin(nn.Linear(shape.dim, shape.num_nouns))

    @classmethod
    def build(cls, shape: ModelShape, *, layers: int = 3, heads: int = 16) -> Head:
        """See `Head`."""
        return cls(shape, num_layers=layers, num_heads=heads)

    def forward(self, features: Tensor, *, past: bool = False, decode: bool = False) -> HeadOutput:
        """See `Head`; the state is what the action's query has found, S = D."""
        assert not past, "a probe has no scores of past frames"
        assert not decode, "a probe decodes no features"
        tokens = features.flatten(1, -2)
        for block in self.blocks:
            tokens = block(tokens)
        found = self.cross(self.queries.expand(features.shape[0], -1, -1), tokens)
        state = found[:, -1]  # verb, noun, action
        logits, padded = self.classifier.scored(state)
        return HeadOutput(
            logits,
            features,
            None,
            None,
            state,
            verb_logits=None if self.verb is None else self.verb(found[:, 0]),
            noun_logits=None if self.noun is None else self.noun(found[:, 1]),
            padded_logits=padded,
        )


def begin(layer: L, share: float = 1.0) -> L:
    """A linear layer with its initial weights, `share` times as large, and no bias."""
    nn.init.trunc_normal_(layer.weight, std=INITIAL_STD)
    with torch.no_grad():
        layer.weight.mul_(share)
    nn.init.zeros_(layer.bias)
    return layer
