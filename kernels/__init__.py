"""Distillation loss from logits: `distillation_loss` and the teacher forms that it takes."""

from antcache.kernels.linear import distillation_loss_linear
from antcache.kernels.loss import Choice, choose, distillation_loss
from antcache.kernels.reference import DistillationParts
from antcache.kernels.sharded import distillation_loss_sharded
from antcache.kernels.targets import DenseTargets, Targets, TopKTargets

__all__ = [
    "Choice",
    "DenseTargets",
    "DistillationParts",
    "Targets",
    "TopKTargets",
    "choose",
    "distillation_loss",
    "distillation_loss_linear",
    "distillation_loss_sharded",
]
