"""The objective: what a student is trained on, term by term.

Promise: every term is a mean over what it is defined on, and 0 where that is nothing; padding and
unlabelled frames, and windows without a soft target or feature, give no gradient. No value is
fetched from the device. Sources: AVT (Girdhar and Grauman 2021) for cross-entropy, feature
regression and past classification; `antcache.kernels.distillation_loss` for the KL; Ghosh et al.
2023 (StonyBrookNLP/action-anticipation-lmtovideo) for feature alignment and several teachers;
`focal` for the focal loss.
Letters: B batch, T time, D feature, C classes, N labels, M teachers, E teacher's feature.

    total = L(action) + verb_noun_weight * (L(verb) + L(noun))
          + feature_weight * MSE(decoded at t, input at t + 1) + past_weight * L(past frames)
          + weight * temperature^2 * KL + align_weight * (1 - cosine, or MSE) + L(later actions)

L is the cross-entropy or the focal loss, its mean over labels. KL is between the softmaxes of the
teacher's and the student's action logits in either case: the focal loss makes sigmoids of the
student's, but a teacher's distribution is over all classes together, and to a softmax alone it
can be compared. The later actions are those of all slots but the first, which says the action
itself: their loss is the mean over those that come before the video ends, a term of its own, so
that the action and its teacher count as much as they do without slots.

Several teachers with fixed weights are mixed as probabilities, and KL is taken to the mixture. With
attention, KL is `sum_m a_m KL_m`, a the softmax of the student's scores of the teachers. Its
gradient for the student's logits is that of the mixture; its gradient for a favours the teachers
that are nearest to the student, which need not be the best ones: compare it with equal weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from antcache.kernels import distillation_loss
from antcache.student.config import StudentConfig
from antcache.student.heads.head import HeadOutput
from antcache.student.training.focal import focal_losses
from antcache.windows.dataset import Batch
from antcache.windows.teacher_targets import TeacherTargets


class Losses(NamedTuple):
    """Terms with their weights, () float32 each; `loss` is their sum."""

    loss: Tensor
    action_loss: Tensor
    feature_loss: Tensor
    past_loss: Tensor
    distillation_loss: Tensor
    verb_noun_loss: Tensor
    align_loss: Tensor
    later_loss: Tensor


def losses(
    output: HeadOutput, batch: Batch, teachers: TeacherTargets | None, config: StudentConfig
) -> Losses:
    """All terms of the objective for one batch."""
    zero = output.logits.new_zeros((), dtype=torch.float32)
    feature, past, verb_noun, align, later = zero, zero, zero, zero, zero
    mixed = None if teachers is None or output.teacher_scores is not None else teachers
    num_classes = output.logits.shape[1]
    loss, action, distillation = _action_terms(output, batch, mixed, config)
    if mixed is None and teachers is not None:
        distillation = _attended(output, batch, teachers, config)
        loss = loss + distillation
    if output.verb_logits is not None and output.noun_logits is not None:
        verb_noun = config.losses.verb_noun_weight * (
            _label_loss(output.verb_logits, batch.verb, config)
            + _label_loss(output.noun_logits, batch.noun, config)
        )
    if config.losses.feature_weight:
        feature = config.losses.feature_weight * _feature_error(output, batch.padded)
    if config.losses.past_weight:
        assert output.past_logits is not None
        past = config.losses.past_weight * _labelled_loss(
            output.past_logits, batch.frame_action, num_classes, config
        )
    if output.aligned is not None and teachers is not None:
        how = config.distillation.align
        misaligned = _misalignment(output.aligned, batch, teachers, how)
        align = config.distillation.align_weight * misaligned
    if output.later_logits is not None:
        assert batch.later_action is not None
        later = _labelled_loss(output.later_logits, batch.later_action, num_classes, config)
    total = loss + feature + past + verb_noun + align + later
    return Losses(total, action, feature, past, distillation, verb_noun, align, later)


def _action_terms(
    output: HeadOutput, batch: Batch, mixed: TeacherTargets | None, config: StudentConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """What is learned by, () each: the loss of the action with KL to a mixture, and its two terms.

    Cross-entropy and KL are one pass over the logits, of which only the sum has a gradient.
    """
    taught, focal = config.distillation, config.losses.focal
    zero = output.logits.new_zeros((), dtype=torch.float32)
    action = focal_losses(output.logits, batch.action).mean() if focal else zero
    if focal and mixed is None:
        return action, action, zero
    parts = distillation_loss(
        output.scores,
        None if mixed is None else mixed.targets,
        None if focal else batch.action,
        rows=None if mixed is None else batch.target_rows,
        temperature=taught.temperature,
        weight=taught.weight,
        label_smoothing=config.losses.label_smoothing,
        teacher_weight=None if mixed is None else mixed.share,
        num_classes=output.logits.shape[1],
        return_parts=True,
    )
    mean_kl = parts.kl.sum() / parts.has_target.sum().clamp(min=1)
    distillation = zero if mixed is None else taught.weight * taught.temperature**2 * mean_kl
    return action + parts.loss, action if focal else parts.ce.mean(), distillation


def _label_loss(logits: Tensor, label: Tensor, config: StudentConfig) -> Tensor:
    """Mean loss () of logits (B, V) of any float type, smoothed as the action's."""
    if config.losses.focal:
        return focal_losses(logits, label).mean()
    return F.cross_entropy(logits.float(), label, label_smoothing=config.losses.label_smoothing)


def _labelled_loss(
    logits: Tensor, label: Tensor, num_classes: int, config: StudentConfig
) -> Tensor:
    """Mean loss () of padded logits (B, T, W) over the labelled ones of all frames (B, T), or of
    all later actions, likewise."""
    if not config.losses.focal:
        return distillation_loss(logits, labels=label, num_classes=num_classes)
    losses = focal_losses(logits[..., :num_classes].flatten(0, 1), label.flatten())
    return losses.sum() / (label >= 0).sum().clamp(min=1)


def _attended(
    output: HeadOutput, batch: Batch, teachers: TeacherTargets, config: StudentConfig
) -> Tensor:
    """Mean () over windows with targets of the teachers' KL, weighed by the student's attention."""
    assert output.teacher_scores is not None
    assert batch.target_rows is not None
    share = output.teacher_scores.float().softmax(dim=1)
    terms = [
        distillation_loss(
            output.scores,
            targets,
            rows=batch.target_rows,
            temperature=config.distillation.temperature,
            weight=config.distillation.weight,
            num_classes=output.logits.shape[1],
            reduction="none",
        )
        for targets in teachers.each_teacher()
    ]
    total = (share * torch.stack(terms, dim=1)).sum()
    return total / (batch.target_rows >= 0).sum().clamp(min=1)


def _misalignment(aligned: Tensor, batch: Batch, teachers: TeacherTargets, how: str) -> Tensor:
    """Mean () over windows and teachers of `1 - cosine`, or of the mean squared error over E.

    The paper compares the student's feature itself, which has its teacher's width, and its squared
    error is between unit vectors: 2 / E times `1 - cosine`. Here a projection is compared.
    """
    assert teachers.feature is not None
    assert teachers.has_feature is not None
    assert batch.target_rows is not None
    rows = batch.target_rows.clamp(min=0)
    widths = list(teachers.dims)
    theirs = torch.split(teachers.feature.index_select(0, rows), widths, dim=1)
    has = (batch.target_rows >= 0) & teachers.has_feature.index_select(0, rows)
    per_window = aligned.new_zeros(len(aligned), dtype=torch.float32)
    mine = torch.split(aligned.float(), widths, dim=1)
    for own, feature in zip(mine, theirs, strict=True):
        if how == "cosine":
            per_window = per_window + 1 - F.cosine_similarity(own, feature, dim=1)
        else:
            per_window = per_window + (own - feature).square().mean(dim=1)
    count = has.sum().clamp(min=1) * len(teachers.dims)
    return per_window.where(has, 0).sum() / count


def _feature_error(output: HeadOutput, padded: Tensor) -> Tensor:
    """Mean squared error () of decoded features at t to inputs at t + 1, both frames real.

    A padded frame repeats the first one: predicting the repetition would teach to copy.
    """
    assert output.decoded is not None
    error = output.decoded[:, :-1].float() - output.inputs[:, 1:].detach().float()
    real = ~padded[:, :-1]
    per_frame = error.square().mean(dim=2).where(real, 0)
    return per_frame.sum() / real.sum().clamp(min=1)
