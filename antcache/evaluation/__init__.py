"""Evaluation: metrics, predictions and their scores."""

from antcache.evaluation.metrics import mean_and_error, score
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.scoring import EvaluationResult, evaluate, score_predictions, score_targets

__all__ = [
    "EvaluationResult",
    "Predictions",
    "evaluate",
    "mean_and_error",
    "score",
    "score_predictions",
    "score_targets",
]
