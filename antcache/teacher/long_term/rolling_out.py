"""A teacher says one action after another: each that it says becomes part of its history.

Promise: what is said depends on the past that is given and on nothing else; the same seed says the
same. A teacher predicts the next action alone, so it is asked again, after a history that ends with
what it said before.

Times are those of the past as far as it was observed; what is said lasts as
`antcache.evaluation.long_term.saying` has it. A teacher that is told about times hears these; as in
its training, at a moment that lies its gap before the next start.
Letters: N pasts, h past actions at most, Z actions, K sequences, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations.protocols import anchor_name
from antcache.errors import BadCheckpoint, BadConfig
from antcache.evaluation.long_term.saying import chosen
from antcache.evaluation.long_term.tasks import ObservedPast
from antcache.evaluation.metrics import blocks
from antcache.progress import Progress, silent
from antcache.teacher.base import Teacher
from antcache.teacher.histories import Examples, HistoryConfig


class Rollout:
    """A teacher that goes on from N pasts, all of them one action a step.

    Attributes:
        now_s: (N,) float64, when what was said so far ends.
    """

    def __init__(
        self,
        teacher: Teacher,
        history: HistoryConfig,
        past: ObservedPast,
        median_s: NDArray[np.float64],
    ) -> None:
        """Begin behind `past`; `history` is what the teacher was trained on, `median_s` (C,).

        Raises:
            BadConfig: the teacher is told about times before another point than a start, which
                nobody knows of an action that is not there yet.
        """
        if teacher.needs_times and history.anchor != 0:
            raise BadConfig(
                "a teacher that is told about times goes on from starts alone",
                expected="the anchor 'start'",
                found=f"the anchor {anchor_name(history.anchor)!r}",
            )
        self._teacher = teacher
        self._gap_s = history.gap_s
        self._median_s = median_s
        self._action, self._start_s, self._stop_s = past.action, past.start_s, past.stop_s
        self.now_s = past.now_s

    def step(self, drawn: NDArray[np.float64] | None = None) -> NDArray[np.int64]:
        """The next action (N,): the likeliest, or the one that `drawn` (N,) in [0, 1) falls on.

        Raises:
            BadCheckpoint: the teacher's scores are no numbers.
        """
        logits = self._teacher.predict(self._examples()).logits
        top = logits.max(axis=1)
        if not np.isfinite(top).all():
            raise BadCheckpoint("the teacher's scores are no numbers", found=float(top.min()))
        said = chosen(logits, drawn)
        ends = self.now_s + self._median_s[said]
        self._action = _append(self._action, said)
        self._start_s = _append(self._start_s, self.now_s)
        self._stop_s = _append(self._stop_s, ends)
        self.now_s = ends
        return said

    def _examples(self) -> Examples:
        """What the teacher is asked; there is no target."""
        ago_s = lasted_s = None
        if self._teacher.needs_times:
            moment = (self.now_s - self._gap_s)[:, None]
            ago_s = (moment - self._start_s).astype(np.float32)
            seen = np.minimum(self._stop_s, moment) - self._start_s
            lasted_s = np.maximum(seen, 0).astype(np.float32)
        count = len(self._action)
        return Examples(
            history=self._action,
            target=np.zeros(count, dtype=np.int64),
            group=np.arange(count),
            ago_s=ago_s,
            lasted_s=lasted_s,
        )


def say_sequences(
    begin: Callable[[ObservedPast], Rollout],
    past: ObservedPast,
    *,
    steps: int,
    samples: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> NDArray[np.int64]:
    """Sequences (N, K, Z) of the next actions.

    Args:
        begin: makes the rollout of some of the pasts.
        past: N of them.
        steps: Z.
        samples: K sequences, each action drawn by its probability; None: the likeliest action at
            each step, K = 1.
        seed: decides what is drawn.
        progress: told how many pasts are done.
    """
    several = 1 if samples is None else samples
    said = np.empty((len(past), several, steps), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for rows in blocks(len(past)):
        progress("sequences", rows.start, len(past))
        part = past[np.repeat(np.arange(rows.start, rows.stop), several)]
        rollout = begin(part)
        for z in range(steps):
            drawn = None if samples is None else rng.random(len(part))
            said[rows, :, z] = rollout.step(drawn).reshape(-1, several)
    progress("sequences", len(past), len(past))
    return said


def _append(past: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """(N, h) without its oldest column and with `new` (N,) as the last."""
    return np.concatenate([past[:, 1:], new[:, None]], axis=1)
