"""The count teacher: interpolated n-grams over actions, verbs and nouns. No download, seconds.

Promise: deterministic, and every prediction is a probability distribution over the actions. It is a
mixture of three models, each counted in one pass:

- `action`: n-grams of actions, P(a | the last n - 1 actions) (`antcache.teacher.counting.ngrams`).
- `factored`: n-grams of nouns times n-grams of verbs, over the actions that exist; left out where
  actions are single labels.
- `recency`: the noun by when and how it was last handled, times the verb by what was last done to
  it (`antcache.teacher.counting.recency`).

The weights of the mixture depend on how many of the last actions were seen in this order before,
and maximise the likelihood of held-out groups (videos): every group is scored by counts of the
other folds, and expectation maximisation finds the weights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy
from antcache.checks import Amount, Range, Seed, at_least, check_types, one_of
from antcache.errors import BadCheckpoint, BadConfig
from antcache.evaluation.metrics import blocks
from antcache.evaluation.mixture_weights import mixture_weights
from antcache.progress import Progress
from antcache.teacher.base import Teacher, TeacherOutput
from antcache.teacher.counting.loops import product_sums
from antcache.teacher.counting.ngrams import SMOOTHINGS, Chain, history_contexts
from antcache.teacher.counting.recency import Recency, with_prefix
from antcache.teacher.histories import Examples, Length, check_folds, concatenate
from antcache.teacher.loops import Floats, Ints

log = logging.getLogger(__name__)

FACTORED = "factored"
MODELS = ("action", FACTORED, "recency")
ROUNDS = 100  # of expectation maximization
ROWS = 64
"""Predictions that are made at a time: so few that all models' rows stay in the processor."""
LEAN = 50.0
"""How many events the weights of all count for in those of a few."""


@dataclass(frozen=True, kw_only=True)
class CountConfig:
    """Settings of the count teacher; tuned on training videos of EPIC-KITCHENS-55 held out."""

    length: Length = 20
    """Past actions it is told about, h; the recency model looks at all of them."""
    order: Annotated[int, Range(1, 5)] = 4
    """Longest n-gram, n: the last n - 1 actions predict the next."""
    smoothing: str = "kneser-ney"
    """How n-grams are interpolated: one of `ngrams.SMOOTHINGS`."""
    times: bool = False
    """It is also told when the past actions happened (`Examples.ago_s`): recency looks at it."""
    balance: Annotated[float, Range(0, 2)] = 0.0
    """Exponent of the class prior that probabilities are divided by (logit adjustment, Menon et al.
    2021): frequent actions step back, class-mean recall gains, top-1 pays."""
    folds: Amount = 5
    """Folds of videos on which the weights of the mixture are fitted; with fewer videos, one each.
    With 0, or a single video, the weights are equal."""
    seed: Seed = 0
    """Decides which video falls into which fold."""

    def __post_init__(self) -> None:
        check_types(self)
        one_of("smoothing", self.smoothing, SMOOTHINGS)
        at_least("length", self.length, self.order - 1)
        check_folds(self.folds)


class CountTeacher(Teacher):
    """Interpolated n-grams; see the module. `config` and `taxonomy` are those it was made with."""

    kind = "count"

    def __init__(self, taxonomy: Taxonomy, config: CountConfig, device: str = "cpu") -> None:
        if device not in ("cpu", "auto"):
            raise BadConfig("the count teacher runs on the CPU", found=device)
        self.taxonomy = taxonomy
        self.config = config
        self.needs_times = config.times
        self._verb = np.append(taxonomy.verb_of, -1)  # position -1: no action, no verb
        self._noun = np.append(taxonomy.noun_of, -1)
        self._names = MODELS if taxonomy.paired else tuple(m for m in MODELS if m != FACTORED)
        sizes = {"action": len(taxonomy.actions)}
        if taxonomy.paired:
            sizes |= {"noun": len(taxonomy.nouns), "verb": len(taxonomy.verbs)}
        self._chains = {kind: Chain(size, config.smoothing) for kind, size in sizes.items()}
        self._recency = Recency(taxonomy, config.length, config.smoothing, times=config.times)
        self._weights = self._equal()
        self._prior = np.ones(len(taxonomy.actions), dtype=np.int64)

    def _fit(self, examples: Examples, scripts: Examples | None, progress: Progress) -> None:
        """Count all; fit the mixture on held-out groups of `examples`, not of `scripts`."""
        folds = min(self.config.folds, len(np.unique(examples.group)))
        self._weights = self._equal()
        if folds > 1:
            fold = examples.folds(folds, self.config.seed)
            likelihood = np.zeros((len(self._names), len(examples)))
            depth = np.zeros(len(examples), dtype=np.int64)
            for k in range(folds):
                progress("counting", k, folds + 1)
                rest = examples[fold != k]
                self._count(rest if scripts is None else concatenate([rest, scripts]))
                held = np.flatnonzero(fold == k)
                for block in (held[part] for part in blocks(len(held))):
                    likelihood[:, block], depth[block] = self._targets(examples[block])
            overall = mixture_weights(likelihood, rounds=ROUNDS)
            self._weights[:] = overall
            for n in np.unique(depth):
                self._weights[n] = mixture_weights(
                    likelihood[:, depth == n], prior=LEAN * overall, rounds=ROUNDS
                )
            shares = ", ".join(f"{m} {w:.3f}" for m, w in zip(self._names, overall, strict=True))
            log.info("mixture, fitted on %d folds: %s", folds, shares)
        everything = examples if scripts is None else concatenate([examples, scripts])
        self._count(everything)
        # One is added to each, so that an action without any example has a prior, too.
        self._prior = np.bincount(everything.target, minlength=len(self.taxonomy.actions)) + 1
        progress("counting", folds + 1, folds + 1)

    def predict(self, examples: Examples) -> TeacherOutput:
        """Log-probability (N, C) of every action after each history, by the balance.

        Raises:
            BadConfig: the examples lack the times that it was told about.
        """
        if self.config.times:
            examples.require_times()
        out = np.empty((len(examples), len(self.taxonomy.actions)), dtype=np.float32)
        for block in blocks(len(examples), ROWS):
            rows, depth = self._models(examples[block])
            mixed = np.einsum("qm,mqc->qc", self._weights[depth], rows)
            if self.config.balance:
                mixed *= self._prior**-self.config.balance
                mixed /= mixed.sum(axis=1, keepdims=True)
            out[block] = np.log(mixed)
        return TeacherOutput(logits=out)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that was learned, by name."""
        learned: dict[str, Chain | Recency] = {**self._chains, "recency": self._recency}
        prior = {"prior": self._prior} if self.config.balance else {}
        return {"weights": self._weights, **prior} | {
            f"{model}.{name}": array
            for model, counted in learned.items()
            for name, array in counted.arrays().items()
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave.

        Raises:
            BadCheckpoint: something is missing or damaged.
        """
        weights = arrays.get("weights")
        if weights is None or weights.shape != self._weights.shape:
            raise BadCheckpoint("the counts are incomplete", found="no weights that fit")
        if weights.dtype != np.float64 or not ((weights >= 0) & (weights <= 1)).all():
            raise BadCheckpoint("the counts are damaged", found="weights that are no shares")
        if self.config.balance:
            prior = arrays.get("prior")
            if prior is None or prior.shape != self._prior.shape:
                raise BadCheckpoint("the counts are incomplete", found="no prior that fits")
            if prior.dtype != np.int64 or not ((prior >= 1) & (prior < 1 << 40)).all():
                raise BadCheckpoint("the counts are damaged", found="prior")
            self._prior = prior
        for kind, chain in self._chains.items():
            chain.restore(with_prefix(arrays, f"{kind}."), self.config.order)
        self._recency.restore(with_prefix(arrays, "recency."))
        self._weights = weights

    def _equal(self) -> Floats:
        """Equal weights (n, models), one row for each number of actions known in their order."""
        return np.full((self.config.order, len(self._names)), 1 / len(self._names))

    def _symbols(self, kind: str, actions: Ints) -> Ints:
        """Actions as such, or their verbs or nouns; -1 stays."""
        return {"action": actions, "noun": self._noun[actions], "verb": self._verb[actions]}[kind]

    def _contexts(self, kind: str, history: Ints) -> list[Ints]:
        """Contexts of one kind, from none to the last n - 1 symbols."""
        past = self._symbols(kind, history)
        return list(history_contexts(past, self.config.order, self._chains[kind].size))

    def _count(self, examples: Examples) -> None:
        """Count everything in `examples`."""
        for kind, chain in self._chains.items():
            outcomes = self._symbols(kind, examples.target)
            chain.fit(self._contexts(kind, examples.history), outcomes, base=chain.size + 1)
        self._recency.fit(examples)

    def _targets(self, examples: Examples) -> tuple[Floats, Ints]:
        """Probability (models, Q) of each target alone, as in `_models`, and its depths (Q,)."""
        contexts = {kind: self._contexts(kind, examples.history) for kind in self._chains}
        target = examples.target
        models = [self._chains["action"].chances(contexts["action"], target)]
        if FACTORED in self._names:
            noun, verb = (self._chains[kind].rows(contexts[kind]) for kind in ("noun", "verb"))
            verb_of, noun_of = self.taxonomy.verb_of, self.taxonomy.noun_of
            row = np.arange(len(target))
            own = noun[row, noun_of[target]] * verb[row, verb_of[target]]
            models.append(own / product_sums(noun, verb, noun_of, verb_of))
        models.append(self._recency.targets(examples, self._plain()))
        return np.stack(models), self._chains["action"].depth(contexts["action"])

    def _plain(self) -> Floats:
        """How likely each noun is in general (O,), or each action where there are none."""
        handled = self._chains["noun" if FACTORED in self._names else "action"]
        plain: Floats = handled.rows([np.zeros(1, dtype=np.int64)])[0]
        return plain

    def _models(self, examples: Examples) -> tuple[Floats, Ints]:
        """Probabilities (models, Q, C) of each model, and how many actions are known (Q,)."""
        contexts = {kind: self._contexts(kind, examples.history) for kind in self._chains}
        of = {kind: chain.rows(contexts[kind]) for kind, chain in self._chains.items()}
        models = [of["action"]]
        if FACTORED in self._names:
            verb_of, noun_of = self.taxonomy.verb_of, self.taxonomy.noun_of
            models.append(of["noun"][:, noun_of] * of["verb"][:, verb_of])
        models.append(self._recency.rows(examples, self._plain()))
        rows = np.stack(models)
        rows /= rows.sum(axis=2, keepdims=True)
        return rows, self._chains["action"].depth(contexts["action"])
