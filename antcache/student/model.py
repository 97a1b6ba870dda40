"""The student: a head, and what else is trained beside it on the same state.

Promise: without own verb and noun classifiers, attention over teachers or feature alignment, a
student is its head and nothing more. All parameters are used inside `forward`; the objective is a
function of its output. In evaluation mode alone, logits are adjusted by the actions' frequency, if
the config asks for that (Menon et al. 2021, "Long-tail learning via logit adjustment", post-hoc).
Letters: B batch, N segments, S state, C classes, V verbs, O nouns, M teachers, E teacher's feature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from antcache.devices import uses_bfloat16
from antcache.errors import BadConfig
from antcache.student.config import StudentConfig
from antcache.student.heads.head import Head, HeadOutput, ModelShape, classifier
from antcache.student.heads.table import build_head
from antcache.student.training.objective_config import ATTENTION


class Student(nn.Module):
    """A head with the classifiers and projections that a config asks for.

    Attributes:
        head: the head.
        verb, noun: own classifiers (S -> V, S -> O), or None; a head may have its own.
        attention: scores of the teachers (S -> M), or None. It reads the state without shaping it:
            its gradient would teach the student states for which some teacher is easy to follow.
        align: projection to the teachers' features (S -> sum of E), or None.
        adjustment: (C,) what predictions are less than the logits, or None; 0 until `adjust_to`.
    """

    adjustment: Tensor | None

    def __init__(self, head: Head, config: StudentConfig, shape: ModelShape) -> None:
        super().__init__()
        self.head = head
        self.verb: nn.Linear | None = None
        self.noun: nn.Linear | None = None
        self.attention: nn.Sequential | None = None
        self.align: nn.Linear | None = None
        width = head.state_dim
        if config.losses.verb_noun_weight and not head.verb_noun:
            own = [m.p for m in head.modules() if isinstance(m, nn.Dropout)]
            self.dropout = nn.Dropout(own[-1] if own else 0.0)  # the head's
            self.verb = classifier(width, shape.num_verbs)
            self.noun = classifier(width, shape.num_nouns)
        if config.distillation.target_weights == ATTENTION:
            scores = nn.Linear(width, shape.num_teachers)
            nn.init.zeros_(scores.weight)  # it begins with equal weights
            nn.init.zeros_(scores.bias)
            self.attention = nn.Sequential(nn.LayerNorm(width), scores)
        if config.distillation.align != "none":
            self.align = nn.Linear(width, sum(shape.teacher_dims))
        self.strength = config.losses.logit_adjustment
        adjusted = torch.zeros(shape.num_classes) if self.strength else None
        self.register_buffer("adjustment", adjusted)

    def adjust_to(self, action: Tensor) -> None:
        """Take the frequencies of the labels (N,) int64 that are trained on."""
        if self.adjustment is not None:
            frequency = log_frequency(action, len(self.adjustment))
            self.adjustment.copy_(self.strength * frequency)

    def forward(self, features: Tensor, *, past: bool = False, decode: bool = False) -> HeadOutput:
        """Anticipate from float32 `features` (B, T, D) or (B, T, K, D); see `HeadOutput`."""
        output: HeadOutput = self.head(features, past=past, decode=decode)
        state = output.state
        if self.verb is not None and self.noun is not None:
            kept = self.dropout(state)
            output = output._replace(verb_logits=self.verb(kept), noun_logits=self.noun(kept))
        if self.attention is not None:
            output = output._replace(teacher_scores=self.attention(state.detach()))
        if self.align is not None:
            output = output._replace(aligned=self.align(state))
        if self.adjustment is not None and not self.training:
            adjusted = output.logits - self.adjustment
            output = output._replace(logits=adjusted, padded_logits=None)
            if output.later_logits is not None:
                later = output.later_logits[..., : len(self.adjustment)] - self.adjustment
                output = output._replace(later_logits=later)
        return output


def log_frequency(action: Tensor, num_classes: int) -> Tensor:
    """Log frequency (C,) float64 of each class among the labels (N,) int64.

    A class is taken to have one segment more than it has, so that none has a frequency of 0.
    """
    count = torch.bincount(action, minlength=num_classes).double() + 1
    return (count / count.sum()).log()


def build_student(config: StudentConfig, shape: ModelShape) -> Student:
    """The student of a config, with initial weights from PyTorch's current random state.

    Raises:
        BadConfig: there is no such head, its sizes are impossible, or a size or a loss has no
            effect on it.
    """
    shape.check_verb_noun(config.losses.verb_noun_weight)
    if not config.losses.verb_noun_weight:  # a head has no classifiers that nothing teaches
        shape = replace(shape, num_verbs=0, num_nouns=0)
    head = build_head(config.model, shape)
    weights = {name: getattr(config.losses, name) for name in ("past_weight", "feature_weight")}
    for name, weight in weights.items():
        if weight and not head.per_frame:
            raise BadConfig(
                f"`{name}` has no effect on the head {config.model.head!r}",
                expected="0: it looks at a window as a whole",
                found=weight,
                hint="leave it out",
            )
    return Student(head, config, shape)


class Predictor:
    """A student that only predicts: on a device, in evaluation mode, in a config's precision.

    In bfloat16, linear layers keep the bfloat16 weights that autocast would make anew before every
    call: the same bits, without the cast, which takes most of the time of a single window.

    Args:
        student: changed in place.
        precision: as `RuntimeConfig.precision`.
        device: where it is moved to.
    """

    def __init__(self, student: Student, precision: str, device: torch.device) -> None:
        self.student = student.to(device).eval()
        self.device = device
        self.bfloat16 = uses_bfloat16(precision, device)
        if self.bfloat16:
            for module in student.modules():
                if isinstance(module, nn.Linear):
                    module.to(torch.bfloat16)

    @torch.no_grad()
    def __call__(self, features: Tensor) -> HeadOutput:
        """Predict from features (B, T, D) or (B, T, K, D) on any device."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            output: HeadOutput = self.student(features.to(self.device).float())
        return output

    def one_window(self, shape: ModelShape) -> Callable[[], object]:
        """A call that predicts one window from host memory to host memory, for timing.

        Its features are random: how long a head takes does not depend on their values.
        """
        generator = torch.Generator().manual_seed(0)
        features = torch.randn((1, *shape.window), generator=generator)
        return lambda: self(features).logits.float().cpu()
