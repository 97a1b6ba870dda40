"""Loops of the count teacher, compiled by numba and kept in its cache.

Promise: each does in one pass what its callers document, on one thread, the same in every run; none
holds a number for each example and class where a few do.

Letters: N or Q examples, h past actions, C actions, O nouns, V verbs; `never` is V.
"""

from __future__ import annotations

from antcache.errors import needs
from antcache.teacher.loops import Floats, Ints

with needs("numba", "teacher"):
    import numpy as np
    from numba import njit


@njit(cache=True)
def interpolate_one(
    chance: Floats,
    keys: Ints,
    starts: Ints,
    outcomes: Ints,
    shares: Floats,
    left: Floats,
    query: Ints,
    outcome: Ints,
) -> None:
    """`antcache.teacher.loops.interpolate` of one outcome (Q,) a row, of `chance` (Q,)."""
    for i in range(len(query)):
        k = np.searchsorted(keys, query[i])
        if k == len(keys) or keys[k] != query[i]:
            continue
        chance[i] *= left[k]
        own = outcomes[starts[k] : starts[k + 1]]
        j = np.searchsorted(own, outcome[i])
        if j < len(own) and own[j] == outcome[i]:
            chance[i] += shares[starts[k] + j]


@njit(cache=True)
def product_sums(noun: Floats, verb: Floats, noun_of: Ints, verb_of: Ints) -> Floats:
    """Sum (Q,) over the actions of `noun` (Q, O) times `verb` (Q, V)."""
    sums = np.zeros(len(noun))
    for i in range(len(noun)):
        total = 0.0
        for c in range(len(noun_of)):
            total += noun[i, noun_of[c]] * verb[i, verb_of[c]]
        sums[i] = total
    return sums


@njit(cache=True)
def count_recency(
    history: Ints,
    when: Ints,
    noun: Ints,
    verb_of: Ints,
    noun_of: Ints,
    never: int,
    there: Ints,
    taken: Ints,
    new: Ints,
    last: Ints,
) -> None:
    """Count where the nouns of each history (N, h) stood, and which of them came next.

    Args:
        history: (N, h).
        when: (N, h) bin of the time since each action, or all 0.
        noun: (N,) the noun that came next.
        verb_of: (C,).
        noun_of: (C,).
        never: verb of a noun that was not handled.
        there: (h, V + 1, bins), gets how often a noun stood there.
        taken: (h, V + 1, bins), gets how often it was the next one.
        new: (h + 1, 2), gets by the number of nouns there how often it was one of them, or not.
        last: (N,), gets the last verb done to the next noun.
    """
    met = np.full(noun_of.max() + 1, -1)  # the example that each noun was last met in
    for i in range(len(history)):
        rank, chosen = 0, 0
        last[i] = never
        for t in range(history.shape[1] - 1, -1, -1):
            action = history[i, t]
            if action < 0 or met[noun_of[action]] == i:
                continue
            met[noun_of[action]] = i
            verb = verb_of[action]
            there[rank, verb, when[i, t]] += 1
            if noun_of[action] == noun[i]:
                taken[rank, verb, when[i, t]] += 1
                last[i], chosen = verb, 1
            rank += 1
        new[rank, 1 - chosen] += 1


@njit(cache=True)
def noun_chances(
    history: Ints,
    when: Ints,
    verb_of: Ints,
    noun_of: Ints,
    never: int,
    pull: Floats,
    plain: Floats,
    new: Floats,
) -> tuple[Floats, Ints]:
    """Chance of each noun to come next by when it was last handled, and what was done to it then.

    Args:
        history: (Q, h).
        when: (Q, h) bin of the time since each action, or all 0.
        verb_of: (C,).
        noun_of: (C,).
        never: verb of a noun that was not handled.
        pull: (h, V + 1, bins) of a noun that stands there.
        plain: (O,) of a noun in general.
        new: (h + 1,) chance of a noun that is not in the history, by how many are.

    Returns:
        Chances (Q, O), each row summing to one, and last verbs (Q, O).
    """
    size = len(plain)
    chances = np.zeros((len(history), size))
    verbs = np.full((len(history), size), never, dtype=np.int64)
    for i in range(len(history)):
        rank, pulls = 0, 0.0
        for t in range(history.shape[1] - 1, -1, -1):
            action = history[i, t]
            if action < 0 or verbs[i, noun_of[action]] != never:
                continue
            noun, verb = noun_of[action], verb_of[action]
            verbs[i, noun] = verb
            chances[i, noun] = pull[rank, verb, when[i, t]]
            pulls += chances[i, noun]
            rank += 1
        fresh = 0.0
        for noun in range(size):
            if verbs[i, noun] == never:
                fresh += plain[noun]
        of_known = (1 - new[rank]) / max(pulls, 1e-300)
        of_fresh = new[rank] / max(fresh, 1e-300)
        total = 0.0
        for noun in range(size):
            if verbs[i, noun] == never:
                chances[i, noun] = plain[noun] * of_fresh
            else:
                chances[i, noun] *= of_known
            total += chances[i, noun]
        for noun in range(size):  # where there is only one of both, it gets it all
            chances[i, noun] /= total
    return chances, verbs


@njit(cache=True)
def recency_rows(noun: Floats, verb: Ints, noun_of: Ints, after: Floats) -> Floats:
    """Probabilities (Q, C) of the actions, not normalised: the noun's times the action's after it.

    Args:
        noun: (Q, O) chances of nouns.
        verb: (Q, O) last verb done to each.
        noun_of: (C,).
        after: (V + 1, C) chance of each action's verb after a verb done to its noun.
    """
    rows = np.empty((len(noun), len(noun_of)))
    for i in range(len(noun)):
        for c in range(len(noun_of)):
            o = noun_of[c]
            rows[i, c] = noun[i, o] * after[verb[i, o], c]
    return rows


@njit(cache=True)
def recency_one(
    noun: Floats, verb: Ints, noun_of: Ints, after: Floats, sums: Floats, action: Ints
) -> Floats:
    """`recency_rows` of one action (Q,) a row, normalised; `sums` (V + 1, O) are those of `after`
    over the actions of each noun."""
    chance = np.empty(len(noun))
    for i in range(len(noun)):
        total = 0.0
        for o in range(noun.shape[1]):
            total += noun[i, o] * sums[verb[i, o], o]
        o = noun_of[action[i]]
        chance[i] = noun[i, o] * after[verb[i, o], action[i]] / total
    return chance
