"""What comes next by a teacher whose history is guessed from a recogniser's scores of the frames.

Promise: what is expected at a row depends on the rows up to it and on no later one, and on no label
of the video. Beam search: a guess is a sequence of past actions, the action under way, and how long
it has lasted. From row to row the action goes on, or ends and another one begins, by

- `Durations`: the chance that it ends after so long,
- the teacher: what it expects after the guessed history,
- the recogniser: how likely the row's frame looks if this action is under way, to the power
  `trust`, because neighbouring frames err alike and are no independent witnesses.

The `width` best guesses are kept. What comes next is the teacher's answer averaged over them, each
by its probability times the chance that its action ends when the next one is said to begin.

An action does not follow itself: two that touch are one. Letters: R rows, C actions, Q rows asked
for, K guesses, h length of a history.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from antcache.checks import Amount, Count, Positive, check_types
from antcache.errors import BadConfig
from antcache.teacher.base import Teacher
from antcache.teacher.histories import Examples
from antcache.teacher.mixing.mixture import log_mix
from antcache.teacher.recognizing.durations import Durations

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Past = tuple[int, ...]
"""Actions that are over, oldest first: the last ones, as many as the teacher is told of."""

ANSWERS_BYTES = 64 << 20
"""Of answers of the teacher that are remembered; a day of a camera has more histories than fit."""


@dataclass(frozen=True, kw_only=True)
class BeamConfig:
    """How histories are guessed."""

    width: Count = 50
    """Guesses that are kept, K."""
    trust: Positive = 0.7
    """Power of the frames' likelihoods; 1 takes frames for independent witnesses."""
    ahead: Amount = 1
    """Rows between the last one that is seen and the start of what is asked for."""

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class _Beam:
    """K guesses: `past`, action under way (K,), rows that it has lasted (K,), log weight (K,)."""

    past: list[Past]
    action: Ints
    lasted: Ints
    weight: Floats

    def histories(self, length: int) -> list[Past]:
        """What a teacher of so many past actions is told where the action under way ends."""
        return [(*p, a)[-length:] for p, a in zip(self.past, self.action.tolist(), strict=True)]


@dataclass(frozen=True, kw_only=True)
class GuessedHistory:
    """A trained teacher that listens to a recogniser; see the module.

    Attributes:
        teacher: trained, of a kind that needs no times.
        durations: of actions, in steps of a row.
        config: see `BeamConfig`.

    Raises:
        BadConfig: the teacher needs times, or knows other actions than the durations.
    """

    teacher: Teacher
    durations: Durations
    config: BeamConfig = field(default_factory=BeamConfig)
    _answers: dict[Past, Floats] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.teacher.needs_times:
            raise BadConfig(
                "a guessed history has no times to tell the teacher",
                hint="train one without: `times` false",
            )
        known, timed = len(self.teacher.taxonomy.actions), len(self.durations.ends)
        if known != timed:
            raise BadConfig("durations of other actions", expected=known, found=timed)

    def expect(self, likelihood: Floats, rows: Ints) -> Floats:
        """What the teacher expects to come after each of `rows`.

        Args:
            likelihood: (R, C) log-likelihood of each row's frame by the action under way, up to a
                number that is the same for all actions.
            rows: (Q,) rows that are the last to be seen, in any order.

        Returns:
            (Q, C) log-probabilities.

        Raises:
            BadConfig: likelihoods of other actions, or not finite; a row that there is not.
        """
        likelihood = np.asarray(likelihood, dtype=np.float64)
        classes = len(self.durations.ends)
        if likelihood.ndim != 2 or likelihood.shape[1] != classes:
            raise BadConfig(
                "likelihoods of other actions", expected=f"(R, {classes})", found=likelihood.shape
            )
        if not np.isfinite(likelihood).all():
            raise BadConfig("likelihoods must be finite")
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(likelihood):
            raise BadConfig("no such row", expected=f"0 to {len(likelihood) - 1}", found=rows.max())
        out = np.empty((len(rows), classes))
        listening = self.listen()
        for row in range(int(rows.max(initial=-1)) + 1):
            listening.hear(likelihood[row])
            if (asked := rows == row).any():
                out[asked] = listening.expected()
        return out

    def listen(self) -> Listening:
        """Begin a video, whose rows come one by one."""
        return Listening(self)

    def _first(self, seen: Floats) -> _Beam:
        """The best guesses at the first row, whose frame is as likely as `seen` (C,)."""
        weight = self._ask([()])[0] + seen
        best = self._best(weight)
        return _Beam([()] * len(best), best, np.zeros_like(best), weight[best])

    def _best(self, weight: Floats) -> Ints:
        """Which of some guesses of these weights are kept, ascending."""
        kept = min(self.config.width, len(weight))
        return np.sort(np.argpartition(-weight, kept - 1)[:kept])

    def _step(self, now: _Beam, seen: Floats) -> _Beam:
        """The best guesses one row later, whose frame is as likely as `seen` (C,)."""
        ends = self.durations.chance(now.action, now.lasted)
        stay = now.weight + np.log1p(-ends) + seen[now.action]
        histories = now.histories(self._length)
        begin = self._ask(histories)
        begin += (now.weight + np.log(ends))[:, None]
        begin += seen
        # Where all guesses may stay, none that begins an action less likely than they can be kept.
        least = stay.min() if len(stay) == self.config.width else -np.inf
        likely = np.flatnonzero(~(begin.ravel() <= least))  # beside a NaN nothing is left out
        count, classes = len(stay), begin.shape[1]
        weight = np.concatenate([stay, begin.ravel()[likely]])
        best = self._best(weight)
        going = best[best < count]  # the first ones, as they ascend
        parent, new = np.divmod(likely[best[len(going) :] - count], classes)
        return _Beam(
            [now.past[p] for p in going.tolist()] + [histories[p] for p in parent.tolist()],
            np.concatenate([now.action[going], new]),
            np.concatenate([now.lasted[going] + 1, np.zeros_like(new)]),
            weight[best] - weight[best].max(),
        )

    def _next(self, now: _Beam) -> Floats:
        """Log-probabilities (C,) of what begins `ahead` rows after the last one."""
        ends = self.durations.chance(now.action, now.lasted + self.config.ahead)
        weight = log_softmax(now.weight + np.log(ends))
        return log_mix(self._ask(now.histories(self._length)), weight[:, None])

    @property
    def _length(self) -> int:
        """Past actions that the teacher is told of."""
        length: int = self.teacher.config.length
        return length

    def _ask(self, histories: list[Past]) -> Floats:
        """The teacher's log-probabilities (K, C) after each history; it is asked once for each."""
        new = [past for past in dict.fromkeys(histories) if past not in self._answers]
        if new:
            self._make_room(len(new), histories)
            length = self._length
            history = np.full((len(new), length), -1, dtype=np.int64)
            for row, past in zip(history, new, strict=True):
                known = past[-length:]
                row[length - len(known) :] = known
            none = np.zeros(len(new), dtype=np.int64)
            told = Examples(history=history, target=none, group=none)
            logits = self.teacher.predict(told).logits.astype(np.float64)
            for past, own in zip(new, logits, strict=True):
                if past:
                    own[past[-1]] = -1e9  # finite: weights are added up
            for past, own in zip(new, log_softmax(logits, axis=1), strict=True):
                self._answers[past] = own.copy()  # not the whole batch behind a row
        return np.stack([self._answers[past] for past in histories])

    def _make_room(self, count: int, needed: list[Past]) -> None:
        """Forget answers but those `needed` where `count` more would take too much memory."""
        most = ANSWERS_BYTES // (8 * len(self.durations.ends))
        if len(self._answers) + count > most:
            kept = {past: self._answers[past] for past in needed if past in self._answers}
            self._answers.clear()
            self._answers.update(kept)


class Listening:
    """The guesses while rows of a video come.

    Args:
        to: who guesses.
    """

    def __init__(self, to: GuessedHistory) -> None:
        self._to = to
        self._guesses: _Beam | None = None

    def hear(self, likelihood: Floats) -> None:
        """Take the next row, whose frame is as likely as that (C,) by the action under way."""
        to, seen = self._to, self._to.config.trust * np.asarray(likelihood, dtype=np.float64)
        before = self._guesses
        self._guesses = to._first(seen) if before is None else to._step(before, seen)

    def expected(self) -> Floats:
        """Log-probabilities (C,) of what begins `ahead` rows after the last one; before the first
        one, of what a video begins with."""
        return self._to._ask([()])[0] if self._guesses is None else self._to._next(self._guesses)
