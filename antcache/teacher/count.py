"""The count teacher: interpolated n-grams over actions, verbs and nouns. No download, seconds.

Promise: deterministic, and every prediction is a probability distribution over the actions. It is a
mixture of three models, each counted in one pass (numba):

- `action`: n-grams of actions, P(a | the last n - 1 actions).
- `factored`: n-grams of nouns times n-grams of verbs, over the actions that exist.
- `recency`: the noun by how recently it was last handled (its place in a move-to-front list, or
  not yet), times the verb by what was last done to that noun (what was taken is put).

N-grams are interpolated after Witten and Bell, from the shortest context to the longest
(Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling"):
`P(y | c) = (count(c, y) + types(c) P(y | shorter c)) / (count(c) + types(c))`.
The weights of the mixture maximise the likelihood of held-out groups (videos): every group is
scored by counts of the other folds, and expectation maximisation finds the weights.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy
from antcache.errors import BadCheckpoint, BadConfig, MissingExtra
from antcache.progress import Progress, silent
from antcache.teacher.histories import Examples, concatenate

try:
    from numba import njit
except ImportError as error:
    raise MissingExtra("numba", "teacher") from error

log = logging.getLogger(__name__)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MODELS = ("action", "factored", "recency")
BLOCK = 1024  # rows scored at a time: bounds memory at BLOCK * C * 8 bytes per model


@dataclass(frozen=True, kw_only=True)
class CountConfig:
    """Settings of the count teacher."""

    length: int = 20
    """Past actions it is told about, h; the recency model looks at all of them."""
    order: int = 4
    """Longest n-gram, n: the last n - 1 actions predict the next."""
    folds: int = 5
    """Folds of videos on which the weights of the mixture are fitted; with fewer videos, one each.
    With 0, or a single video, the weights are equal."""
    seed: int = 0
    """Decides which video falls into which fold."""

    def __post_init__(self) -> None:
        if (
            not 1 <= self.order <= 5
            or self.length < self.order - 1
            or self.folds < 0
            or self.folds == 1
        ):
            raise BadConfig(
                "impossible count teacher",
                expected="order 1 to 5, length >= order - 1, folds 0 or >= 2",
                found=self,
            )


@njit(cache=True)
def _interpolate(
    rows: Floats, keys: Ints, starts: Ints, outcomes: Ints, counts: Ints, query: Ints
) -> None:
    """Turn rows (Q, n) of lower-order probabilities into those given the contexts `query` (Q,)."""
    for i in range(len(query)):
        k = np.searchsorted(keys, query[i])
        if k == len(keys) or keys[k] != query[i]:
            continue
        total = 0
        for j in range(starts[k], starts[k + 1]):
            total += counts[j]
        types = starts[k + 1] - starts[k]
        for y in range(rows.shape[1]):
            rows[i, y] *= types / (types + total)
        for j in range(starts[k], starts[k + 1]):
            rows[i, outcomes[j]] += counts[j] / (types + total)


@njit(cache=True)
def _recent_nouns(
    history: Ints, verb_of: Ints, noun_of: Ints, num_nouns: int, never: int
) -> tuple[Ints, Ints]:
    """Rank (N, nouns) by recency, -1 if absent, and the last verb done to each noun or `never`."""
    rank = np.full((len(history), num_nouns), -1, dtype=np.int64)
    verb = np.full((len(history), num_nouns), never, dtype=np.int64)
    for i in range(len(history)):
        seen = 0
        for t in range(history.shape[1] - 1, -1, -1):
            action = history[i, t]
            if action >= 0 and rank[i, noun_of[action]] < 0:
                rank[i, noun_of[action]] = seen
                verb[i, noun_of[action]] = verb_of[action]
                seen += 1
    return rank, verb


@dataclass(frozen=True, kw_only=True)
class _Counts:
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
    def of(cls, contexts: Ints, outcomes: Ints) -> _Counts:
        """Count the pairs of `contexts` (N,) and `outcomes` (N,)."""
        order = np.lexsort((outcomes, contexts))
        context, outcome = contexts[order], outcomes[order]
        new_context = np.diff(context, prepend=-1) != 0
        first = np.flatnonzero(new_context | (np.diff(outcome, prepend=-1) != 0))
        return cls(
            keys=context[new_context],
            starts=np.append(np.flatnonzero(new_context[first]), len(first)),
            outcomes=outcome[first],
            counts=np.diff(first, append=len(context)),
        )

    def interpolate(self, rows: Floats, contexts: Ints) -> None:
        """Refine the probabilities in `rows` (Q, n) by what followed `contexts` (Q,)."""
        _interpolate(rows, self.keys, self.starts, self.outcomes, self.counts, contexts)


def _contexts(history: Ints, order: int, size: int) -> Iterator[Ints]:
    """Contexts (N,) as numbers, from none to the last `order - 1` symbols; -1 is a symbol too."""
    key = np.zeros(len(history), dtype=np.int64)
    yield key
    for back in range(1, order):
        key = key * (size + 1) + history[:, -back] + 1
        yield key


class CountTeacher:
    """Interpolated n-grams; see the module. `config` and `taxonomy` are those it was made with."""

    kind = "count"

    def __init__(self, taxonomy: Taxonomy, config: CountConfig, device: str = "cpu") -> None:
        if device != "cpu":
            raise BadConfig("the count teacher runs on the CPU", found=device)
        self.taxonomy = taxonomy
        self.config = config
        self._verb = np.append(taxonomy.verb_of, -1)  # position -1: no action, no verb
        self._noun = np.append(taxonomy.noun_of, -1)
        self._sizes = {
            "action": len(taxonomy.actions),
            "noun": len(taxonomy.nouns),
            "verb": len(taxonomy.verbs),
        }
        self._tables: dict[str, _Counts] = {}
        self._state = np.empty((0, 0, 0))  # verbs by noun and what was last done to it
        self._weights = np.full(len(MODELS), 1 / len(MODELS))

    def fit(
        self,
        examples: Examples,
        *,
        scripts: Examples | None = None,
        progress: Progress = silent,
    ) -> None:
        """Count, and fit the mixture on held-out groups of `examples`; `scripts` are only counted.

        Raises:
            BadConfig: there are no examples.
        """
        everything = examples if scripts is None else concatenate([examples, scripts])
        if not len(everything):
            raise BadConfig("there is nothing to count")
        folds = min(self.config.folds, len(np.unique(examples.group)))
        self._weights = np.full(len(MODELS), 1 / len(MODELS))
        if folds > 1:
            fold = examples.folds(folds, self.config.seed)
            likelihood = np.zeros((len(MODELS), len(examples)))
            for k in range(folds):
                progress("counting", k, folds + 1)
                rest = examples[fold != k]
                self._count(rest if scripts is None else concatenate([rest, scripts]))
                held = np.flatnonzero(fold == k)
                for block in np.array_split(held, len(held) // BLOCK + 1):
                    part = self._models(examples.history[block])
                    likelihood[:, block] = part[:, np.arange(len(block)), examples.target[block]]
            self._weights = maximise(likelihood)
        shares = ", ".join(f"{m} {w:.3f}" for m, w in zip(MODELS, self._weights, strict=True))
        log.info("mixture, fitted on %d folds: %s", folds, shares)
        self._count(everything)
        progress("counting", folds + 1, folds + 1)

    def logits(self, examples: Examples) -> NDArray[np.float32]:
        """Log-probability (N, C) of every action after each history."""
        out = np.empty((len(examples), self._sizes["action"]), dtype=np.float32)
        for at in range(0, len(examples), BLOCK):
            rows = self._models(examples.history[at : at + BLOCK])
            out[at : at + BLOCK] = np.log(np.tensordot(self._weights, rows, axes=1))
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that was learned, by name."""
        tables = {
            f"{name}.{field}": array
            for name, table in self._tables.items()
            for field, array in asdict(table).items()
        }
        return {"weights": self._weights, **tables}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave.

        Raises:
            BadCheckpoint: something is missing.
        """
        names = [*self._ngram_names(), "rank", "state.0", "state.1", "state.2"]
        fields = tuple(_Counts.__dataclass_fields__)
        missing = {"weights", *(f"{n}.{f}" for n in names for f in fields)}.difference(arrays)
        if missing or arrays["weights"].shape != (len(MODELS),):
            raise BadCheckpoint(
                "the counts are incomplete", found=f"no {min(missing, default='weights')}"
            )
        self._weights = arrays["weights"]
        self._tables = {n: _Counts(**{f: arrays[f"{n}.{f}"] for f in fields}) for n in names}
        self._state = self._state_verbs()

    def _ngram_names(self) -> list[str]:
        return [f"{kind}.{n}" for kind in self._sizes for n in range(self.config.order)]

    def _symbols(self, kind: str, actions: Ints) -> Ints:
        """Actions as such, or their verbs or nouns; -1 stays."""
        return (
            actions if kind == "action" else (self._noun if kind == "noun" else self._verb)[actions]
        )

    def _recent(self, history: Ints) -> tuple[Ints, Ints]:
        """Rank and last verb (N, nouns) of each noun in each history; see `_recent_nouns`."""
        assert history.shape[1] == self.config.length, "histories of another length"
        verbs, nouns = self._sizes["verb"], self._sizes["noun"]
        rank, verb = _recent_nouns(history, self._verb, self._noun, nouns, verbs)
        return rank, verb

    def _count(self, examples: Examples) -> None:
        """Fill all tables from `examples`."""
        for kind, size in self._sizes.items():
            past = self._symbols(kind, examples.history)
            next_one = self._symbols(kind, examples.target)
            for n, contexts in enumerate(_contexts(past, self.config.order, size)):
                self._tables[f"{kind}.{n}"] = _Counts.of(contexts, next_one)
        verb, noun = self._verb[examples.target], self._noun[examples.target]
        rank, last = np.empty_like(noun), np.empty_like(noun)
        for at in range(0, len(examples), BLOCK):
            block = slice(at, at + BLOCK)
            ranks, lasts = self._recent(examples.history[block])
            row = np.arange(len(ranks))
            rank[block], last[block] = ranks[row, noun[block]], lasts[row, noun[block]]
        nothing = np.zeros_like(rank)
        self._tables["rank"] = _Counts.of(nothing, np.where(rank < 0, self.config.length, rank))
        self._tables["state.0"] = _Counts.of(nothing, verb)
        self._tables["state.1"] = _Counts.of(last, verb)
        self._tables["state.2"] = _Counts.of(last * self._sizes["noun"] + noun, verb)
        self._state = self._state_verbs()

    def _ngram(self, kind: str, history: Ints) -> Floats:
        """P (Q, n) of the next action, verb or noun, by n-grams of its own kind."""
        size = self._sizes[kind]
        rows = np.full((len(history), size), 1 / size)
        past = self._symbols(kind, history)
        for n, contexts in enumerate(_contexts(past, self.config.order, size)):
            self._tables[f"{kind}.{n}"].interpolate(rows, contexts)
        return rows

    def _state_verbs(self) -> Floats:
        """P (verbs + 1, nouns, verbs) of a verb, given a noun and what was last done to it."""
        verbs, nouns = self._sizes["verb"], self._sizes["noun"]
        pair = np.arange((verbs + 1) * nouns)
        rows = np.full((len(pair), verbs), 1 / verbs)
        for n, contexts in enumerate((np.zeros_like(pair), pair // nouns, pair)):
            self._tables[f"state.{n}"].interpolate(rows, contexts)
        return rows.reshape(verbs + 1, nouns, verbs)

    def _recency(self, history: Ints) -> Floats:
        """P (Q, C) of the recency model, not normalised over the actions."""
        rank, last = self._recent(history)
        ranks = np.full((1, self.config.length + 1), 1 / (self.config.length + 1))
        self._tables["rank"].interpolate(ranks, np.zeros(1, dtype=np.int64))
        plain = np.full((1, self._sizes["noun"]), 1 / self._sizes["noun"])
        self._tables["noun.0"].interpolate(plain, np.zeros(1, dtype=np.int64))
        # The mass of "not yet" goes to the unseen nouns by their frequency; the ranks that this
        # history does not have are left out, and the rest is normalised.
        fresh = np.where(rank < 0, plain, 0.0)
        fresh *= ranks[0, -1] / np.maximum(fresh.sum(axis=1, keepdims=True), 1e-12)
        noun = np.where(rank < 0, fresh, ranks[0, rank])
        noun /= noun.sum(axis=1, keepdims=True)
        verb_of, noun_of = self.taxonomy.verb_of, self.taxonomy.noun_of
        verb = self._state[last[:, noun_of], noun_of, verb_of]
        return noun[:, noun_of] * verb

    def _models(self, history: Ints) -> Floats:
        """Probabilities (models, Q, C) of each model of the mixture."""
        verb_of, noun_of = self.taxonomy.verb_of, self.taxonomy.noun_of
        factored = (
            self._ngram("noun", history)[:, noun_of] * self._ngram("verb", history)[:, verb_of]
        )
        rows = np.stack([self._ngram("action", history), factored, self._recency(history)])
        rows /= rows.sum(axis=2, keepdims=True)
        return rows


def maximise(likelihood: Floats, *, rounds: int = 100) -> Floats:
    """Weights (M,) of a mixture that maximise the likelihood (M, N) of N events under M models.

    Expectation maximisation from equal weights.
    """
    weights = np.full(len(likelihood), 1 / len(likelihood))
    for _ in range(rounds):
        share = weights[:, None] * likelihood
        weights = (share / share.sum(axis=0)).mean(axis=1)
    return weights
