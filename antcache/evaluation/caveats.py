"""What figures can't tell: which task they are of, metrics that are one and the same, and what
chance gets right.

Promise: all of it follows from the task, classes and labels alone, never from scores.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.annotations.protocols import before
from antcache.evaluation.metrics import Metric, metrics_of
from antcache.evaluation.present import PRESENT, Classes

MOST_GUESSES = 5
"""k of the metrics that chance helps most."""
LUCK = 0.5
"""Share of truths that a guess without any knowledge holds, from which a figure says little."""


def same_metrics(taxonomy: Taxonomy, segments: Segments) -> dict[str, str]:
    """Metrics that equal an earlier one on these segments whatever is predicted: name -> that one.

    Two are the same if they count the same ranks and average over the same classes, of which only
    those among the labels matter.
    """
    first: dict[Hashable, str] = {}
    found = {}
    for name, metric in metrics_of(taxonomy).items():
        labels = getattr(segments, metric.kind)
        if metric.defined(labels):
            earlier = first.setdefault(_counted(metric, labels), name)
            if earlier != name:
                found[name] = earlier
    return found


def _counted(metric: Metric, labels: NDArray[np.integer]) -> Hashable:
    if not metric.class_mean:
        return metric.ranked, metric.k
    present = np.unique(labels)
    if metric.classes is not None:
        present = np.intersect1d(present, metric.classes)
    over = len(present) if metric.over is None else metric.over
    return metric.ranked, metric.k, tuple(present.tolist()), over


def another_task(anchor: float, classes: Classes) -> str | None:
    """One sentence if figures are of another task than the usual, whose figures they look like."""
    differs = []
    if anchor != 0:
        differs.append(f"what is seen ends before {before(anchor)}, not before its start")
    if classes == PRESENT:
        differs.append(
            "classes that do not occur never win, and segments whose verb and noun have no "
            "training segment are left out"
        )
    if not differs:
        return None
    return f"Not to be put beside figures of the usual task: {'; and '.join(differs)}."


def few_classes(taxonomy: Taxonomy) -> str | None:
    """One sentence if classes are so few that five guesses without knowledge hold many truths."""
    sizes = {kind: len(getattr(taxonomy, f"{kind}s")) for kind in taxonomy.kinds}
    few = [
        f"{100 * min(1.0, MOST_GUESSES / size):.0f} % with {size} {kind}{'s' if size > 1 else ''}"
        for kind, size in sizes.items()
        if MOST_GUESSES / size >= LUCK
    ]
    if not few:
        return None
    return (
        f"Top-5 and recall@5 mean little with so few classes: {MOST_GUESSES} guesses without any "
        f"knowledge hold the truth in {', '.join(few)}."
    )
