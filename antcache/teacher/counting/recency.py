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
from antcache.evaluation.metrics import blocks
from antcache.teacher.counting.ngrams import Chain
from antcache.teacher.histories import Examples
from antcache.teacher.loops import Floats, Ints, recent_nouns
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
        self._verb = np.append(self.things.verb_of, -1)  # position -1: no action, no verb
        self._noun = np.append(self.things.noun_of, -1)
        self._verbs, self._nouns = self.things.verbs, self.things.nouns
        sizes = [length, self._verbs + 1, UNKNOWN + 1][: 3 if times else 2]
        self._positions = np.cumprod(sizes)  # how many there are, from coarse to fine
        self._chain = Chain(self._verbs, smoothing)

    def fit(self, examples: Examples) -> None:
        """Count where the next noun stood, and what was done to it."""
        there = [np.zeros(size, dtype=np.int64) for size in self._positions]
        taken = [np.zeros(size, dtype=np.int64) for size in self._positions]
        new = np.zeros((self.length + 1, 2), dtype=np.int64)
        noun, last = self._noun[examples.target], np.empty(len(examples), dtype=np.int64)
        for block in blocks(len(examples)):
            rank, verb, positions = self._look(examples[block])
            known = rank >= 0
            chosen = known & (noun[block, None] == np.arange(self._nouns))
            for n, position in enumerate(positions):
                there[n] += np.bincount(position[known], minlength=len(there[n]))
                taken[n] += np.bincount(position[chosen], minlength=len(taken[n]))
            np.add.at(new, (known.sum(axis=1), 1 - chosen.sum(axis=1)), 1)
            last[block] = verb[np.arange(len(verb)), noun[block]]
        self._chain.fit(
            (np.zeros_like(last), last, last * self._nouns + noun), self._verb[examples.target]
        )
        self._take(there, taken, new)

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
        self._next_verb = rows.reshape(self._verbs + 1, self._nouns, self._verbs)

    def _look(self, examples: Examples) -> tuple[Ints, Ints, list[Ints]]:
        """Rank, last verb and positions, from coarse to fine, of all nouns (N, O)."""
        assert examples.history.shape[1] == self.length, "histories of another length"
        rank, verb, column = recent_nouns(
            examples.history, self._verb, self._noun, self._nouns, self._verbs
        )
        positions = [np.maximum(rank, 0)]
        positions.append(positions[0] * (self._verbs + 1) + verb)
        if self.times:
            assert examples.ago_s is not None
            assert examples.lasted_s is not None
            since = np.take_along_axis(examples.ago_s - examples.lasted_s, column, axis=1)
            when = np.searchsorted(EDGES_S, since, side="left")
            when[np.isnan(since)] = UNKNOWN
            positions.append(positions[1] * (UNKNOWN + 1) + when)
        return rank, verb, positions

    def rows(self, examples: Examples, plain: Floats) -> Floats:
        """Probabilities (N, C), not normalised, given those of nouns in general: `plain` (O,)."""
        rank, verb, positions = self._look(examples)
        known = rank >= 0
        pull = np.where(known, self._pull[positions[-1]], 0.0)
        fresh = np.where(known, 0.0, plain)
        for part in (pull, fresh):
            part /= np.maximum(part.sum(axis=1, keepdims=True), 1e-300)
        new = self._new[known.sum(axis=1), None]
        noun = new * fresh + (1 - new) * pull  # where there is only one of both, it gets it all
        noun /= noun.sum(axis=1, keepdims=True)
        verb_of, noun_of = self.things.verb_of, self.things.noun_of
        rows: Floats = noun[:, noun_of] * self._next_verb[verb[:, noun_of], noun_of, verb_of]
        return rows

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
