"""Weights of student and listening teacher, learned on videos that neither was trained on."""

from __future__ import annotations

from scripted_kitchen import Scripted

from antcache.predict.listening.learning import BOTH, STUDENT, Listened


def test_the_past_that_is_recognised_says_what_a_window_does_not(
    made: Scripted, listened: Listened
) -> None:
    """The student sees three seconds; which action follows `cut` depends on what came before it."""
    top1 = {name: own["action/top1"] for name, own in listened.metrics.items()}
    print(top1, listened.weights, listened.nll)
    assert top1[BOTH] > top1[STUDENT] + 10
