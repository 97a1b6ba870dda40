"""Which head a student has, how large it is, and how it takes several streams.

Promise: what is not given is the head's own, in the signature of its `build`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from antcache.checks import Range, Share, check_types
from antcache.settings import SWITCH


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A head and its size."""

    head: str = "light"
    """Name of the head: light, avth, rulstm, gru, mean or probe."""
    layers: Annotated[int, Range(1, 100)] | None = None
    """Blocks, or recurrent layers, of the head; its own number unless given."""
    heads: Annotated[int, Range(1, 1024)] | None = None
    """Attention heads of a block; the head's own number unless given."""
    width: Annotated[int, Range(1, 1 << 16)] | None = None
    """Width of the blocks or layers; the head's own unless given."""
    dropout: Share | None = field(default=None, metadata=SWITCH)
    """Dropout before the classifier; the head's own unless given."""
    slots: Annotated[int, Range(2, 100)] | None = None
    """Next actions that the student says, of the head light: a decoder with as many learned slots,
    of which the first is the ordinary anticipation; the next action alone unless given."""
    fusion: Literal["concat", "late", "attention"] = "concat"
    """Several streams: concat (side by side into one head), late (one branch each, logits averaged)
    or attention (one branch each, weighed per window by a small network)."""

    def __post_init__(self) -> None:
        check_types(self)
