"""GPT-2's transformer in plain PyTorch: pre-norm blocks, causal attention, learned positions.

Promise: with the same weights the output equals transformers' `GPT2Model(inputs_embeds=...)`
(Radford et al. 2019); position t depends on inputs up to t alone.
Letters: B batch, T time, H width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antcache.checks import at_least
from antcache.errors import BadConfig

INITIAL_STD = 0.02
"""Standard deviation of GPT-2's initial weights."""

PLAIN_KEYS = 512
"""Most keys whose weights are held at once by plain products: those of the 4,352 tokens of a whole
clip would take 600 MB for each window and block."""


def attention(
    query: Tensor, key: Tensor, value: Tensor, *, dropout_p: float, is_causal: bool
) -> Tensor:
    """Attention of Q queries (..., Q, H) over K keys and values (..., K, H); returns (..., Q, H).

    PyTorch's fused one, but on a CPU in bfloat16, where it takes two to six times as long as two
    plain products, forward and backward, on windows of 10 to 128 frames, and as long from some
    hundred on (PyTorch 2.13).
    """
    short = key.shape[-2] <= PLAIN_KEYS
    if short and query.device.type == "cpu" and query.dtype == torch.bfloat16:
        weights = attention_weights(query, key, is_causal=is_causal)
        return F.dropout(weights, dropout_p) @ value
    return F.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout_p, is_causal=is_causal
    )


def attention_weights(query: Tensor, key: Tensor, *, is_causal: bool) -> Tensor:
    """What each query (..., Q, H) pays to each key (..., K, H): (..., Q, K), rows of sum 1."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if is_causal:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(ahead, -math.inf)
    return scores.softmax(dim=-1)


def by_head(x: Tensor, num_heads: int) -> Tensor:
    """(B, T, H) to (B, heads, T, H / heads)."""
    batch, time, width = x.shape
    return x.view(batch, time, num_heads, width // num_heads).transpose(1, 2)


class TransformerBlock(nn.Module):
    """`x + attention(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(
        self, width: int, num_heads: int, *, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.norm_1 = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, *, last: bool = False) -> Tensor:
        """(B, T, H) to (B, T, H), or with `last` to the last state alone (B, 1, H)."""
        normed, width = self.norm_1(x), x.shape[-1]
        if last:  # of the others only keys and values are needed
            x, weight, bias = x[:, -1:], self.attention_in.weight, self.attention_in.bias
            query = F.linear(normed[:, -1:], weight[:width], bias[:width])
            key, value = F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
        else:
            query, key, value = self.attention_in(normed).chunk(3, dim=-1)
        mixed = attention(
            by_head(query, self.num_heads),
            by_head(key, self.num_heads),
            by_head(value, self.num_heads),
            dropout_p=self.attention_dropout if self.training else 0.0,
            is_causal=not last,
        )
        mixed = self.attention_out(mixed.transpose(1, 2).flatten(2))
        x = x + F.dropout(mixed, self.dropout, self.training)
        wide = F.gelu(self.mlp_in(self.norm_2(x)), approximate="tanh")
        return x + F.dropout(self.mlp_out(wide), self.dropout, self.training)


class CausalTransformer(nn.Module):
    """Blocks between learned positions and a final norm.

    Args:
        width: H.
        num_layers: number of blocks.
        num_heads: attention heads of a block; H must be a multiple.
        num_positions: longest T.
        dropout: after the positions and after both parts of a block.
        attention_dropout: of the attention's weights.

    Raises:
        BadConfig: the width is not a multiple of the heads, or a number is below 1.
    """

    def __init__(
        self,
        width: int,
        *,
        num_layers: int,
        num_heads: int,
        num_positions: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        at_least("layers", num_layers, 1)
        at_least("heads", num_heads, 1)
        at_least("positions", num_positions, 1)
        if width < 1 or width % num_heads:
            raise BadConfig(
                "impossible width", expected=f"a multiple of the {num_heads} heads", found=width
            )
        self.dropout = dropout
        self.positions = nn.Embedding(num_positions, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, num_heads, dropout=dropout, attention_dropout=attention_dropout)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self._initialise()

    def _initialise(self) -> None:
        """GPT-2's initial weights; what is added to the residual is scaled by its depth."""
        nn.init.normal_(self.positions.weight, std=INITIAL_STD)
        residual_std = INITIAL_STD / math.sqrt(2 * len(self.blocks))
        for name, parameter in self.blocks.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" not in name:
                nn.init.normal_(parameter, std=residual_std if "out" in name else INITIAL_STD)

    def forward(self, x: Tensor, *, last: bool = False) -> Tensor:
        """(B, T, H) embedded inputs to (B, T, H) final states, normalised.

        With `last` only the last one (B, 1, H) comes out of the last block: most of a shallow
        transformer's work is spared where nobody asks for the others.
        """
        x = x + self.positions(torch.arange(x.shape[1], device=x.device))
        x = F.dropout(x, self.dropout, self.training)
        for depth, block in enumerate(self.blocks, 1):
            x = block(x, last=last and depth == len(self.blocks))
        normalised: Tensor = self.norm(x)
        return normalised
