"""How a student's weights are found, and which of the epochs' are kept.

Promise: nothing is selected on the split that is scored: the last epoch is kept, or the best on
videos that are held out of training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from antcache.checks import Count, Positive, Share, Weight, check_types
from antcache.errors import BadConfig
from antcache.settings import FREE


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """Optimizer, schedule and batches."""

    optimizer: Literal["adamw", "adam", "sgd"] = field(default="adamw", metadata=FREE)
    """adamw, adam (L2 in the gradient, as published), or sgd (Nesterov momentum 0.9)."""
    lr: Positive = field(default=1e-3, metadata=FREE)
    """Highest learning rate."""
    weight_decay: Weight = field(default=0.05, metadata=FREE)
    """Weight decay; adamw leaves biases and norms out."""
    warmup_epochs: Weight = field(default=1.0, metadata=FREE)
    """Epochs over which the rate rises from 0; it falls to 0 along a cosine afterwards."""
    epochs: Count = 20
    """Passes over the training windows; the last epoch is the one that is reported."""
    batch_size: Count = 128
    """Windows per step."""
    grad_clip: Positive | None = field(default=1.0, metadata=FREE)
    """Largest norm of the gradient; None, null in a plan, does not clip."""
    ema: Share = field(default=0.0, metadata=FREE)
    """Decay per step of a moving average of the weights, which is then what is scored and kept; 0
    keeps no average."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.warmup_epochs > self.epochs:
            raise BadConfig(
                "the warm-up is longer than the training",
                expected=f"at most {self.epochs} epochs",
                found=self.warmup_epochs,
                hint="shorten it as well: `warmup_epochs`",
            )


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Which epoch's weights are kept."""

    held_out: Share = 0.0
    """Share of the training videos that is not trained on and selects the best epoch, whose weights
    are then what is kept; 0 holds out none, and the last epoch is reported."""
    patience: Count | None = field(default=None, metadata=FREE)
    """Stop after this many epochs without a better one on the videos held out; never unless
    given."""
    metric: str = "action/top5"
    """Metric of the videos held out by which epochs are compared."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.patience is not None and not self.held_out:
            raise BadConfig(
                "patience has no effect without videos held out of training",
                hint="hold a share of them out: `held_out` 0.1",
            )
