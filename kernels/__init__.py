"""Distillation loss from logits: `distillation_loss` and the teacher forms that it takes."""

from antcache.kernels.reference import DistillationParts, distillation_loss
from antcache.kernels.targets import DenseTargets, Targets, TopKTargets

__all__ = ["DenseTargets", "DistillationParts", "Targets", "TopKTargets", "distillation_loss"]
