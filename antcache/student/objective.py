"""The objective: what a student is trained on, term by term.

Promise: every term is a mean over what it is defined on, and 0 where that is nothing; padding and
unlabelled frames, and windows without a soft target, give no gradient. No value is fetched from the
device. Sources: AVT (Girdhar and Grauman 2021) for the first three terms,
`antcache.kernels.distillation_loss` for the KL. Letters: B batch, T time, D feature, C classes.

    total = CE(action) + feature_weight * MSE(decoded at t, input at t + 1)
          + past_weight * CE(past frames) + weight * temperature^2 * KL
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from antcache.kernels import Targets, distillation_loss
from antcache.student.config import StudentConfig
from antcache.student.heads import HeadOutput


class Batch(NamedTuple):
    """B windows.

    Attributes:
        features: (B, T, D) float32.
        padded: (B, T) bool.
        action: (B,) int64.
        frame_action: (B, T) int64, -100 where there is none.
        target: (B,) int64 row of the soft targets, -1 without one.
    """

    features: Tensor
    padded: Tensor
    action: Tensor
    frame_action: Tensor
    target: Tensor


class Losses(NamedTuple):
    """Terms with their weights, () float32 each; `loss` is their sum."""

    loss: Tensor
    action_loss: Tensor
    feature_loss: Tensor
    past_loss: Tensor
    distillation_loss: Tensor


def losses(
    output: HeadOutput, batch: Batch, targets: Targets | None, config: StudentConfig
) -> Losses:
    """All terms of the objective for one batch."""
    zero = output.logits.new_zeros((), dtype=torch.float32)
    feature, past, distillation = zero, zero, zero
    parts = distillation_loss(
        output.logits,
        targets,
        batch.action,
        rows=None if targets is None else batch.target,
        temperature=config.temperature,
        weight=config.weight,
        label_smoothing=config.label_smoothing,
        return_parts=True,
    )
    action = parts.ce.mean()
    if targets is not None:
        mean_kl = parts.kl.sum() / parts.has_target.sum().clamp(min=1)
        distillation = config.weight * config.temperature**2 * mean_kl
    if config.feature_weight:
        feature = config.feature_weight * _feature_error(output, batch.padded)
    if config.past_weight:
        assert output.past_logits is not None
        past = config.past_weight * distillation_loss(
            output.past_logits.flatten(0, 1), labels=batch.frame_action.flatten()
        )
    return Losses(parts.loss + feature + past, action, feature, past, distillation)


def _feature_error(output: HeadOutput, padded: Tensor) -> Tensor:
    """Mean squared error () of decoded features at t to inputs at t + 1, both frames real.

    A padded frame repeats the first one: predicting the repetition would teach to copy.
    """
    error = output.decoded[:, :-1].float() - output.inputs[:, 1:].detach().float()
    real = ~padded[:, :-1]
    per_frame = error.square().mean(dim=2).where(real, 0)
    return per_frame.sum() / real.sum().clamp(min=1)
