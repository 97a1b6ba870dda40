"""Teachers that know an order, and remember what they were asked."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy
from antcache.progress import Progress
from antcache.teacher.base import Teacher, TeacherOutput
from antcache.teacher.histories import Examples


class NextInOrder(Teacher):
    """After action a comes a + 1, after the last the first, which opens a video as well.

    With `doubt`, the action after that one has this probability instead.
    """

    kind = "in-order"

    def __init__(
        self, taxonomy: Taxonomy, *, length: int = 4, times: bool = False, doubt: float = 0.0
    ) -> None:
        self.taxonomy = taxonomy
        self.config = SimpleNamespace(length=length, seed=0)
        self.needs_times = times
        self.doubt = doubt
        self.asked: list[Examples] = []

    def _fit(self, examples: Examples, scripts: Examples | None, progress: Progress) -> None:
        raise NotImplementedError

    def predict(self, examples: Examples) -> TeacherOutput:
        """Log-probabilities, -inf for what never comes."""
        self.asked.append(examples)
        classes = len(self.taxonomy.actions)
        probability = np.zeros((len(examples), classes))
        rows, following = np.arange(len(examples)), examples.history[:, -1] + 1
        probability[rows, following % classes] = 1 - self.doubt
        probability[rows, (following + 1) % classes] += self.doubt
        with np.errstate(divide="ignore"):
            return TeacherOutput(logits=np.log(probability).astype(np.float32))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Nothing was learned."""
        return {}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Nothing to take over."""
