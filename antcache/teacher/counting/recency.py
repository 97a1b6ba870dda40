"""Recency: which noun comes next by when and how each was last handled, and what is done to it.

Promise: deterministic; every probability is positive. The noun first: a noun that the history holds
has a place in the list of nouns by how recently they were handled, a last verb, and (with times) a
time since then. How often a noun in that position turned out to be the next one is its *pull*,
estimated by place, refined by the last verb (what was taken is put soon), refined by the time; each
step leans on the one before where it has seen little. Nouns that are not in the history share, by
their frequency, the chance that a new one comes, which depends on how many there were. Then the
verb, by what was last done to that noun: an n-gram of `antcache.teacher.counting.ngrams`. Of single
labels, the noun is the action, and there is no more to say: see `antcache.teacher.things`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy
from antcache.errors import BadCheckpoint
from antcache.teacher.counting.loops import (
    count_recency,
    noun_chances,
    recency_one,
    recency_rows,
)
from antcache.teacher.counting.ngrams import Chain
from antcache.teacher.histories import Examples
from antcache.teacher.loops import Floats, Ints
from antcache.teacher.things import Things

EDGES_S = (0.0, *(0.25 * 2.0**n for n in range(1, 11)))
"""Edges in seconds between the bins of time since a noun was handled: 0 (it still is), then up to
0.5 s, 1 s, 2 s, and so on, over 4 min."""
UNKNOWN = len(EDGES_S) + 1
LEAN = 10.0
"""How many observations a coarser estimate of a pull counts for in the finer one."""
LEAN_NEW = 20.0
"""The same for the chance of a new noun at any time in that after so many nouns."""


class Recency:
    """P(action | history) by recency; see the module. O nouns, V verbs."""

    def __init__(self, taxonomy: Taxonomy, length: int, smoothing: str, *, times: bool) -> None:
        """Nothing is counted yet.

        Args:
            taxonomy: the C actions.
            length: h, of the histories.
            smoothing: of the verb's n-gram, see `ngrams.SMOOTHINGS`.
            times: refine the pull by the time since a noun was handled.
        """
        self.length, self.times = length, times
        self.things = Things.of(taxonomy)
        self._verbs, self._nouns = self.things.verbs, self.things.nouns
        sizes = [length, self._verbs + 1, UNKNOWN + 1][: 3 if times else 2]
        self._positions = np.cumprod(sizes)  # how many there are, from coarse to fine
        self._chain = Chain(self._verbs, smoothing)

    def fit(self, examples: Examples) -> None:
        """Count where the next noun stood, and what was done to it."""
        finest = (self.length, self._verbs + 1, UNKNOWN + 1 if self.times else 1)
        there, taken = np.zeros(finest, dtype=np.int64), np.zeros(finest, dtype=np.int64)
        new = np.zeros((self.length + 1, 2), dtype=np.int64)
        noun, last = self.things.noun_of[examples.target], np.empty(len(examples), dtype=np.int64)
        verb_of, noun_of = self.things.verb_of, self.things.noun_of
        count_recency(
            examples.history, self._when(examples), noun, verb_of, noun_of, self._verbs,
            there, taken, new, last,
        )  # fmt: skip
        self._chain.fit(
            (np.zeros_like(last), last, last * self._nouns + noun), verb_of[examples.target]
        )
        self._take(self._levels(there), self._levels(taken), new)

    def _levels(self, counts: Ints) -> list[Ints]:
        """Counts (h, V + 1, bins) from coarse to fine: by place, last verb, and time if told."""
        levels: list[Ints] = [counts.sum(axis=(1, 2)), counts.sum(axis=2).ravel(), counts.ravel()]
        return levels[: len(self._positions)]

    def _take(self, there: list[Ints], taken: list[Ints], new: Ints) -> None:
        """Pulls, chances and verbs from counts."""
        self._counts = {"new": new}
        pull = np.full(1, (taken[0].sum() + 1) / (there[0].sum() + 2))
        for n, (position, chosen) in enumerate(zip(there, taken, strict=True)):
            pull = np.repeat(pull, len(position) // len(pull))
            pull = (chosen + LEAN * pull) / (position + LEAN)
            self._counts |= {f"there.{n}": position, f"taken.{n}": chosen}
        self._pull = pull
        events = new.sum(axis=1)
        plain = (new[:, 1].sum() + 1) / (events.sum() + 2)
        self._new = (new[:, 1] + LEAN_NEW * plain) / (events + LEAN_NEW)
        pair = np.arange((self._verbs + 1) * self._nouns)
        rows = self._chain.rows((np.zeros_like(pair), pair // self._nouns, pair))
        verb_of, noun_of = self.things.verb_of, self.things.noun_of
        self._after = rows.reshape(-1, self._nouns, self._verbs)[:, noun_of, verb_of]
        self._sums = np.zeros((self._verbs + 1, self._nouns))
        np.add.at(self._sums.T, noun_of, self._after.T)

    def _when(self, examples: Examples) -> Ints:
        """Bin (N, h) of the time since each action ended; 0 where it is not told."""
        assert examples.history.shape[1] == self.length, "histories of another length"
        if not self.times:
            return np.zeros(examples.history.shape, dtype=np.int64)
        assert examples.ago_s is not None
        assert examples.lasted_s is not None
        since = examples.ago_s - examples.lasted_s
        when: Ints = np.searchsorted(EDGES_S, since, side="left").astype(np.int64, copy=False)
        when[np.isnan(since)] = UNKNOWN
        return when

    def _nouns_of(self, examples: Examples, plain: Floats) -> tuple[Floats, Ints]:
        """Chance (N, O) of each noun to be the next, and the last verb done to it, or V."""
        pull = self._pull.reshape(self.length, self._verbs + 1, -1)
        verb_of, noun_of = self.things.verb_of, self.things.noun_of
        found: tuple[Floats, Ints] = noun_chances(
            examples.history, self._when(examples), verb_of, noun_of, self._verbs,
            pull, plain, self._new,
        )  # fmt: skip
        return found

    def rows(self, examples: Examples, plain: Floats) -> Floats:
        """Probabilities (N, C), not normalised, given those of nouns in general: `plain` (O,)."""
        noun, verb = self._nouns_of(examples, plain)
        rows: Floats = recency_rows(noun, verb, self.things.noun_of, self._after)
        return rows

    def targets(self, examples: Examples, plain: Floats) -> Floats:
        """Probability (N,) of the action that came next, the row's normalised."""
        noun, verb = self._nouns_of(examples, plain)
        noun_of = self.things.noun_of
        chance: Floats = recency_one(noun, verb, noun_of, self._after, self._sums, examples.target)
        return chance

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that was counted, by name."""
        verbs = {f"verb.{name}": array for name, array in self._chain.arrays().items()}
        return {**self._counts, **verbs}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave.

        Raises:
            BadCheckpoint: something is missing, of another size, or no count.
        """
        levels = range(len(self._positions))
        shapes: dict[str, tuple[int, ...]] = {
            f"{kind}.{n}": (self._positions[n],) for kind in ("there", "taken") for n in levels
        }
        shapes["new"] = (self.length + 1, 2)
        for name, shape in shapes.items():
            if name not in arrays or arrays[name].shape != shape:
                raise BadCheckpoint("the counts are incomplete", found=f"no {name}")
            own = arrays[name]
            if own.dtype != np.int64 or not ((own >= 0) & (own < 1 << 40)).all():
                raise BadCheckpoint("the counts are damaged", found=name)
        self._chain.restore(with_prefix(arrays, "verb."), 3)
        self._take(
            [arrays[f"there.{n}"] for n in levels],
            [arrays[f"taken.{n}"] for n in levels],
            arrays["new"],
        )


def with_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with `prefix`, without it."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
