"""N-grams: how often each outcome followed each context, and what that says of the next time.

Promise: deterministic; every row of probabilities is positive and sums to one.
Contexts grow from none to the longest, and each refines what the shorter one says. Two ways of it
(Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling"):

- `kneser-ney`: modified. `P(y | c) = (n - D(n)) / total + left P(y | shorter c)`, where n is how
  often y followed c, and the discounts D of 1, 2 and 3 or more come from how many pairs occurred
  once, twice, and so on. All contexts but the longest count how many different longer contexts
  a pair occurs in, not how often: what follows everywhere is likely, what follows one thing is not.
- `witten-bell`: `P(y | c) = (n + types(c) P(y | shorter c)) / (total + types(c))`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadCheckpoint
from antcache.teacher.counting.loops import interpolate_one
from antcache.teacher.loops import Floats, Ints, interpolate

SMOOTHINGS = ("kneser-ney", "witten-bell")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How often each outcome followed each context: K contexts, P pairs of both.

    Attributes:
        keys: (K,) contexts as numbers, ascending.
        starts: (K + 1,) where the pairs of each context begin.
        outcomes: (P,) outcome of each pair.
        counts: (P,) how often it occurred.
    """

    keys: Ints
    starts: Ints
    outcomes: Ints
    counts: Ints

    @classmethod
    def of(cls, contexts: Ints, outcomes: Ints) -> Counts:
        """Count the pairs of `contexts` (N,) and `outcomes` (N,)."""
        context, outcome = sorted_pairs(contexts, outcomes)
        new_context = np.diff(context, prepend=-1) != 0
        first = np.flatnonzero(new_context | (np.diff(outcome, prepend=-1) != 0))
        return cls(
            keys=context[new_context],
            starts=np.append(np.flatnonzero(new_context[first]), len(first)),
            outcomes=outcome[first],
            counts=np.diff(first, append=len(context)),
        )

    def check(self, size: int) -> None:
        """Check that these are counts of outcomes 0 to `size` - 1, whoever wrote them.

        The compiled loops look nowhere else than these numbers say.

        Raises:
            BadCheckpoint: they are none.
        """
        arrays = (self.keys, self.starts, self.outcomes, self.counts)
        if (
            any(a.ndim != 1 or a.dtype != np.int64 for a in arrays)
            or len(self.starts) != len(self.keys) + 1
            or len(self.outcomes) != len(self.counts)
            or not len(self.keys)
            or self.starts[0] != 0
            or self.starts[-1] != len(self.outcomes)
            or (np.diff(self.starts) < 1).any()
            or (np.diff(self.keys) < 1).any()
            or not ((self.outcomes >= 0) & (self.outcomes < size)).all()
            or not ((self.counts >= 1) & (self.counts < 1 << 40)).all()
        ):
            raise BadCheckpoint("the counts are damaged")

    def pairs(self) -> tuple[Ints, Ints]:
        """Context and outcome (P,) of each pair."""
        return np.repeat(self.keys, np.diff(self.starts)), self.outcomes

    def shares(self, smoothing: str) -> tuple[Floats, Floats]:
        """Share (P,) of each pair in its context, and the share (K,) left to the shorter one."""
        counts = self.counts
        types: Ints = np.diff(self.starts)
        total = np.add.reduceat(counts, self.starts[:-1])
        if smoothing == "witten-bell":
            return counts / np.repeat(types + total, types), types / (types + total)
        discount = discounts(counts)[np.minimum(counts, 3)]
        left = np.add.reduceat(discount, self.starts[:-1]) / total
        return (counts - discount) / np.repeat(total, types), left


def sorted_pairs(contexts: Ints, outcomes: Ints) -> tuple[Ints, Ints]:
    """Both (N,), none below 0, sorted by context, then by outcome."""
    size = int(outcomes.max(initial=0)) + 1
    if int(contexts.max(initial=0)) < np.iinfo(np.int64).max // size:
        # As one number, of which no permutation has to be known: several times as fast.
        pair = np.sort(contexts * size + outcomes)
        return pair // size, pair % size
    order = np.lexsort((outcomes, contexts))
    return contexts[order], outcomes[order]


def discounts(counts: Ints) -> Floats:
    """What Kneser-Ney takes from a count of 0, 1, 2 and of 3 or more: (4,), more than 0.

    From the numbers of pairs that occurred once to four times, after Chen and Goodman. Where these
    are too few to say, it stays within reason: something is always taken, and never all.
    """
    once, twice, thrice, four = (int(np.count_nonzero(counts == n)) for n in (1, 2, 3, 4))
    y = once / max(once + 2 * twice, 1)
    found = (
        1 - 2 * y * twice / max(once, 1),
        2 - 3 * y * thrice / max(twice, 1),
        3 - 4 * y * four / max(thrice, 1),
    )
    return np.append(0.0, np.clip(found, 0.05, (0.95, 1.95, 2.95)))


class Chain:
    """P(outcome | context) by contexts from none to the longest; see the module."""

    def __init__(self, size: int, smoothing: str) -> None:
        """Nothing is counted yet.

        Args:
            size: n, how many outcomes there are.
            smoothing: one of `SMOOTHINGS`.
        """
        self.size, self.smoothing = size, smoothing
        self._tables: list[Counts] = []
        self._shares: list[tuple[Floats, Floats]] = []

    def fit(self, contexts: Iterable[Ints], outcomes: Ints, *, base: int = 0) -> None:
        """Count `outcomes` (N,) after `contexts` (each (N,), from none to the longest).

        With a `base`, a context divided by it is the next shorter one, and Kneser-Ney counts the
        longer contexts of a pair; without, it only discounts.
        """
        tables = [Counts.of(context, outcomes) for context in contexts]
        if base and self.smoothing == "kneser-ney":
            longer = [table.pairs() for table in tables[1:]]
            tables[:-1] = [Counts.of(context // base, outcome) for context, outcome in longer]
        self._take(tables)

    def _take(self, tables: list[Counts]) -> None:
        self._tables = tables
        self._shares = [table.shares(self.smoothing) for table in tables]

    def rows(self, contexts: Iterable[Ints]) -> Floats:
        """Probabilities (Q, n) after `contexts`, each (Q,), the same kinds as in `fit` or fewer."""
        rows = np.empty((0, self.size))
        for at, context in enumerate(contexts):
            if at == 0:
                rows = np.full((len(context), self.size), 1 / self.size)
            t, (shares, left) = self._tables[at], self._shares[at]
            interpolate(rows, t.keys, t.starts, t.outcomes, shares, left, context)
        return rows

    def chances(self, contexts: Iterable[Ints], outcomes: Ints) -> Floats:
        """Probability (Q,) of one outcome (Q,) of each of the `rows`."""
        chance = np.full(len(outcomes), 1 / self.size)
        for table, (shares, left), context in zip(
            self._tables, self._shares, contexts, strict=False
        ):
            interpolate_one(
                chance, table.keys, table.starts, table.outcomes, shares, left, context, outcomes
            )
        return chance

    def depth(self, contexts: Iterable[Ints]) -> Ints:
        """Number (Q,) of the longest of the `contexts` that was counted: 0 for none of them."""
        deepest = np.zeros(0, dtype=np.int64)
        for at, context in enumerate(contexts):
            keys = self._tables[at].keys
            found = keys[np.minimum(np.searchsorted(keys, context), len(keys) - 1)] == context
            deepest = found * at if at == 0 else np.where(found, at, deepest)
        return deepest

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that was counted, by name."""
        return {
            f"{n}.{field}": array
            for n, table in enumerate(self._tables)
            for field, array in asdict(table).items()
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], contexts: int) -> None:
        """Take over what `arrays` gave, of so many kinds of contexts.

        Raises:
            BadCheckpoint: something is missing, or no count.
        """
        fields = tuple(Counts.__dataclass_fields__)
        missing = {f"{n}.{f}" for n in range(contexts) for f in fields}.difference(arrays)
        if missing:
            raise BadCheckpoint("the counts are incomplete", found=f"no {min(missing)}")
        tables = [Counts(**{f: arrays[f"{n}.{f}"] for f in fields}) for n in range(contexts)]
        for table in tables:
            table.check(self.size)
        self._take(tables)


def history_contexts(history: Ints, order: int, size: int) -> Iterator[Ints]:
    """Contexts (N,) as numbers, from none to the last `order - 1` symbols of `history` (N, h).

    Symbols are 0 to `size` - 1, and -1 for nothing; so a context divided by `size` + 1 is the next
    shorter one.
    """
    key = np.zeros(len(history), dtype=np.int64)
    yield key
    for back in range(1, order):
        key = key * (size + 1) + history[:, -back] + 1
        yield key
