"""What a student is taught by: soft targets, labels and features, and how much each counts.

Promise: a setting that would have no effect is refused where it can be told from these alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from antcache.checks import Count, Positive, Share, Weight, check_types, distinct
from antcache.errors import BadConfig
from antcache.settings import FREE, SWITCH, TARGETS

ATTENTION = "attention"


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """What is taken over from teachers."""

    targets: tuple[str, ...] = field(default=(), metadata=TARGETS)
    """Soft targets to distil from, NAME[,NAME...]; without them the student learns from labels."""
    target_weights: tuple[Weight, ...] | str | None = None
    """Several soft targets: a number for each (1,3), attention (learned, differing by window), or
    the name of the joint targets of an ensemble of them, whose weights and temperatures are taken;
    alike unless given."""
    weight: Weight = field(default=3.0, metadata=FREE)
    """Weight of the distillation term, weight * T^2 * mean KL_T."""
    temperature: Positive = field(default=2.0, metadata=FREE)
    """Temperature T of the distillation term."""
    top_k: Count | None = field(default=None, metadata=TARGETS)
    """Distil within the teacher's k best classes; the targets as they are stored unless given."""
    tail: bool = field(default=False, metadata=TARGETS)
    """With top-k targets, count all other classes as one more outcome."""
    allow_missing_targets: bool = field(default=False, metadata=TARGETS)
    """Mask training segments that the soft targets lack, instead of refusing to train."""
    align: Literal["none", "cosine", "mse"] = "none"
    """Bring a projection of the student's state to the teacher's feature: none, cosine or mse."""
    align_weight: Weight = 1.0
    """Weight of that alignment."""

    def __post_init__(self) -> None:
        check_types(self)
        distinct("targets", self.targets)
        for name, idle in (("top_k", self.top_k is None), ("align", self.align == "none")):
            if not self.targets and not idle:
                raise BadConfig(
                    f"{name} has no effect without soft targets", hint="name them: `targets`"
                )
        if self.align == "none" and self.align_weight != 1:
            raise BadConfig(
                "`align_weight` has no effect without `align`", hint="`align` cosine or mse"
            )
        if self.target_weights is not None and len(self.targets) < 2:
            raise BadConfig(
                "`target_weights` has no effect on one set of soft targets",
                hint="name several: `targets` a,b",
            )
        numbers = self.target_weights
        if isinstance(numbers, tuple) and (len(numbers) != len(self.targets) or not any(numbers)):
            raise BadConfig(
                "impossible target_weights",
                expected=f"{len(self.targets)} numbers, not all 0",
                found=",".join(map(str, numbers)),
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is learned from labels and features."""

    loss: Literal["cross-entropy", "focal"] = field(default="cross-entropy", metadata=FREE)
    """What labels of actions, verbs, nouns and past frames are learned by: cross-entropy, or focal
    (sigmoid focal loss, alpha 0.25, gamma 2; the sum over classes, its mean over windows)."""
    verb_noun_weight: Weight = field(default=0.0, metadata=SWITCH)
    """Weight of own verb and noun classifiers (sum of their losses); 0 has none, and verb and noun
    scores are marginals of the action scores."""
    feature_weight: Weight = field(default=0.0, metadata=SWITCH)
    """Weight of the mean squared error between decoded and next features."""
    past_weight: Weight = field(default=0.0, metadata=SWITCH)
    """Weight of the loss of past frames."""
    label_smoothing: Share = field(default=0.0, metadata=FREE)
    """Share of the label that is spread over all classes."""
    logit_adjustment: Weight = field(default=0.0, metadata=FREE)
    """Predictions are the logits less this times the log frequency of each action in training
    (post-hoc logit adjustment), which favours rare actions: 0 for top-1, up to 1 for class-mean
    metrics. What is learned is the same."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.focal and self.label_smoothing:
            raise BadConfig(
                "`label_smoothing` has no effect on the focal loss",
                found=self.label_smoothing,
                hint="leave it out",
            )

    @property
    def focal(self) -> bool:
        """Whether labels are learned by the focal loss."""
        return self.loss == "focal"

    @property
    def frame_outputs(self) -> dict[str, bool]:
        """What of each frame the objective needs: keywords of a student's `forward`."""
        return {"past": self.past_weight > 0, "decode": self.feature_weight > 0}
