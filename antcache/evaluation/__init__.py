"""Evaluation: metrics, predictions and their scores."""

from antcache.evaluation.metrics import mean_and_error, score
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.scoring import Result, evaluate, score_predictions, score_targets

__all__ = [
    "Predictions",
    "Result",
    "evaluate",
    "mean_and_error",
    "score",
    "score_predictions",
    "score_targets",
]
