"""A decoder over slots: the states of a window become one for each of the next Z actions.

Promise: slot k has a query of its own, learned, on top of the window's last state, and looks at all
states of the window; slots do not see one another. One pre-norm block, of the width, heads and
activation of the encoder's, so that little is learned beside it.
Letters: B batch, T time, H width, Z slots.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from antcache.student.heads.blocks import INITIAL_STD, attention, by_head


class SlotDecoder(nn.Module):
    """`x + attention(norm(x), states)`, then `x + mlp(norm(x))`, and a final norm.

    Args:
        width: H.
        num_slots: Z.
        num_heads: attention heads; H must be a multiple.
        dropout: after both parts of the block.
    """

    def __init__(self, width: int, *, num_slots: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.queries = nn.Embedding(num_slots, width)
        self.norm_1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)
        self.attention_out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" not in name:
                nn.init.normal_(parameter, std=INITIAL_STD)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, T, H) of the frames to those of the slots (B, Z, H), normalised."""
        x = states[:, -1:] + self.queries.weight
        key, value = self.memory(states).chunk(2, dim=-1)
        mixed = attention(
            by_head(self.query(self.norm_1(x)), self.num_heads),
            by_head(key, self.num_heads),
            by_head(value, self.num_heads),
            dropout_p=0.0,
            is_causal=False,
        )
        mixed = self.attention_out(mixed.transpose(1, 2).flatten(2))
        x = x + F.dropout(mixed, self.dropout, self.training)
        wide = F.gelu(self.mlp_in(self.norm_2(x)), approximate="tanh")
        slots: Tensor = self.norm(x + F.dropout(self.mlp_out(wide), self.dropout, self.training))
        return slots
