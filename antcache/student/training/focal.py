"""The sigmoid focal loss: every class by itself, those that are easy to tell counting for little.

Promise: with each class's probability p from its own sigmoid, and p_t = p for the label and 1 - p
for any other class, a window's loss is the sum over classes of

    alpha_t (1 - p_t)^gamma (-log p_t),    alpha_t = alpha for the label, 1 - alpha for the others

(Lin et al. 2017, "Focal loss for dense object detection"; as torchvision's `sigmoid_focal_loss`).
Letters: N windows, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

ALPHA, GAMMA = 0.25, 2.0
"""As published, there and with V-JEPA 2."""


def focal_losses(logits: Tensor, label: Tensor) -> Tensor:
    """The loss (N,) float32 of logits (N, C) of any float type; 0 where the label is negative."""
    scores = logits.float()
    labelled = label >= 0
    own = torch.zeros_like(scores, dtype=torch.bool)
    own = own.scatter(1, label.clamp(min=0)[:, None], value=True)
    # 1 - p_t is the sigmoid of this, and -log p_t its softplus: no logarithm of a 0.
    wrong = torch.where(own, -scores, scores)
    share = torch.where(own, ALPHA, 1 - ALPHA)
    per_class = share * wrong.sigmoid() ** GAMMA * F.softplus(wrong)
    return per_class.sum(dim=1).where(labelled, 0)
