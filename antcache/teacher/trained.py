"""Settings of the teachers that are networks: what these are told, and how they are trained.

Promise: they are checked when a teacher's settings are made; each kind has its own defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

from antcache.checks import (
    Count,
    Positive,
    Range,
    Seed,
    Share,
    Weight,
    at_least,
    check_types,
    within,
)
from antcache.teacher.histories import Length


@dataclass(frozen=True, kw_only=True)
class TrainedSettings:
    """Settings that every network has."""

    length: Length = 20
    """Past actions that it is told about, h: the memory's span."""
    attended: Length = 8
    """How many of them the transformer sees: the last ones."""
    dropout: Share = 0.3
    """Dropout on the embeddings, inside the layers and before the classifiers."""
    label_smoothing: Share = 0.1
    """Share of each target that is spread over all classes."""
    verb_weight: Weight = 0.15
    """Weight of the verb's cross-entropy; the action's is what the two others leave of 1, and all
    of it where actions are single labels."""
    noun_weight: Weight = 0.15
    """Weight of the noun's cross-entropy."""
    epochs: Count = 8
    """Passes over the examples."""
    batch: Count = 128
    """Examples in a step."""
    lr: Positive = 1e-3
    """Highest learning rate, of AdamW on one cycle (linear up, cosine down to 0)."""
    memory_lr: Positive = 1e-2
    """The same for the memory's tables, which start at 0 and have far to go."""
    warmup: Share = 0.2
    """Share of the steps in which the learning rate rises."""
    weight_decay: Weight = 0.05
    """Weight decay of matrices; biases, norms, positions and tables have none."""
    seed: Seed = 0
    """Decides new weights, the order of the examples, what is dropped and what is held out."""

    def __post_init__(self) -> None:
        check_types(self)
        at_least("attended", self.attended, 1, self.length)
        within("verb_weight + noun_weight", self.verb_weight + self.noun_weight, Range(0, 1))
