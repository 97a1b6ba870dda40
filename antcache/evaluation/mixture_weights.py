"""Weights of a mixture of models, from what each of them said of events that happened.

Promise: deterministic; the likelihood never gets worse (expectation maximization: each step is a
model's mean responsibility). Letters: M models, N events.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EQUAL, FITTED, APART = "equal", "held-out", "apart"
"""What weights may be called by: the same for all, or found on held-out training videos, by their
actions for everything, or for verb, noun and action apart."""
LEARNED = (FITTED, APART)
STEADY = 1e-9
"""Change of every weight below which they are found."""


def mixture_weights(
    p: Floats, *, start: Floats | None = None, prior: Floats | float = 0.0, rounds: int = 500
) -> Floats:
    """Weights (M,), at least 0 and together 1, with the highest likelihood of all events.

    Args:
        p: (M, N) probability of each event under each model, up to a factor of the event's own;
            some model gives it one.
        start: (M,) weights to begin at; None: equal ones.
        prior: (M,) further events that each model is taken to explain alone.
        rounds: most steps.
    """
    weights = np.full(len(p), 1 / len(p)) if start is None else start
    for _ in range(rounds):
        explained = weights * (p / (weights @ p)).sum(axis=1) + prior
        before, weights = weights, explained / explained.sum()
        if np.abs(weights - before).max() < STEADY:
            break
    return weights
