"""A moving average of a student's weights (EMA), which often scores better than the last step's.

Promise: the average follows from the weights of each step alone, so that keeping it with them
resumes exactly. It begins as a mean over few steps: after step n the decay is at most
(1 + n) / (10 + n), so that the initial weights do not linger (as in TensorFlow's moving averages).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from antcache.errors import BadCheckpoint


class Average:
    """Moving average of a model's parameters.

    Args:
        model: whose parameters are averaged; the average begins as a copy of them.
        decay: of the average per step, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            name: p.detach().clone() for name, p in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights after `step` (from 1) in."""
        decay = min(self.decay, (1 + step) / (10 + step))
        new = [p.detach() for p in model.parameters()]
        torch._foreach_lerp_(list(self.weights.values()), new, 1 - decay)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from an average that was kept.

        Raises:
            BadCheckpoint: it is of another model.
        """
        shapes = ({k: tuple(v.shape) for k, v in w.items()} for w in (self.weights, weights))
        expected, found = shapes
        if expected != found:
            differ = sorted(k for k in {*expected, *found} if expected.get(k) != found.get(k))
            raise BadCheckpoint("the averaged weights are of another model", found=differ[0])
        for name, value in self.weights.items():
            value.copy_(weights[name])
