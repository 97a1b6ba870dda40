"""Late fusion: the predictions of several runs mixed into one, with weights from held-out videos.

Promise: weights are only ever fitted on segments that are not among the fused ones, each at least 0
and together 1; a segment that any run lacks is left out, and counted. Letters: M runs, N segments,
H held-out segments, C classes.

One set of weights serves actions, verbs and nouns; or each has weights of its own, since the run
that knows most of what is done need not be the one that knows most of what it is done with.

Two mixtures: of *probabilities*, `log sum_m w_m softmax(s_m)`, and of *logits*, `sum_m w_m
log softmax(s_m)`, the geometric mean. Weights minimise the mean -log p(truth) of the held-out
segments: a convex problem in both cases, solved for the first by `mixture_weights`, for the second
by sequential least squares (SLSQP; Kraft 1988).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from antcache.annotations import Segments, Taxonomy, locate
from antcache.annotations.taxonomy import KINDS
from antcache.checks import at_least, one_of
from antcache.errors import BadConfig, FingerprintMismatch, NotFound
from antcache.evaluation.metrics import blocks, verb_noun_marginals
from antcache.evaluation.mixture_weights import APART, EQUAL, FITTED, LEARNED, mixture_weights
from antcache.evaluation.predictions import HELD_OUT, TENSORS, Predictions, check_moments
from antcache.evaluation.scoring import load_predictions, rows_in
from antcache.evaluation.task import Task
from antcache.store import Store

Floats = NDArray[np.float64]
MIXTURES = ("probabilities", "logits")
ROUNDS = 10_000  # of expectation maximization, each of M x H
CONVERGED = 1e-7
"""Nats that a step must gain for another one to be taken."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """How much each run counts.

    Attributes:
        weights: (M,) of the runs, in their order.
        nll: mean -log p(truth) of the held-out segments, nats: of each run, then of the mixture;
            empty where weights are given.
    """

    weights: tuple[float, ...]
    nll: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fused:
    """Several runs as one.

    Attributes:
        predictions: of the N segments that all runs have, in the order of the first run; scores are
            log-probabilities (of logits: not normalised). Verbs and nouns are fused where every run
            has own scores for them, or where they have weights of their own.
        shares: by kind, `action`, and `verb` and `noun` where these have weights of their own.
        left_out: segments that some run has and another lacks.
        held_out: segments that the weights were found on; 0 for given weights.
    """

    predictions: Predictions
    shares: dict[str, Share]
    left_out: int
    held_out: int

    @property
    def weights(self) -> tuple[float, ...]:
        """(M,) of the runs for their actions."""
        return self.shares["action"].weights

    @property
    def nll(self) -> tuple[float, ...]:
        """That of their actions; see `Share`."""
        return self.shares["action"].nll


def fuse(
    store: Store,
    names: Sequence[str],
    *,
    weights: str | Sequence[float] = EQUAL,
    held_out: Sequence[str] | None = None,
    mixture: str = "probabilities",
) -> Fused:
    """Mix the predictions called `names`.

    Args:
        store: where the labels of the held-out segments are.
        names: M files, folders of runs or `targets/NAME`.
        weights: `equal`; `held-out` to fit them to actions, `apart` to verbs and nouns as well,
            each for itself; or M numbers, which are scaled to the sum 1.
        held_out: M predictions to fit the weights on; None takes `held_out.safetensors` in the
            folders of the runs.
        mixture: one of `MIXTURES`.

    Raises:
        BadConfig: fewer than two runs, impossible weights or mixture, held-out segments that are
            among the fused ones, or held-out predictions of other classifiers.
        FingerprintMismatch: the runs are for different taxonomies, splits, anchors or gaps, or have
            no common segment.
        NotFound, BadCheckpoint, MissingKey, MissingTarget: see `scoring.load_predictions`.
    """
    at_least("number of runs to fuse", len(names), 2)
    one_of("mixture", mixture, MIXTURES)
    learned = isinstance(weights, str) and weights in LEARNED
    if weights == APART and not store.taxonomy.paired:
        raise BadConfig(
            f"weights {APART!r} are for actions of verb and noun",
            where=store.path,
            expected=f"{FITTED!r}: these actions have neither",
        )
    if held_out is not None and not learned:
        raise BadConfig("held-out predictions have no effect on weights that are given")
    loaded = [load_predictions(store, name) for name in names]
    runs, left_out = _common(loaded, names)
    task = _task(loaded, names)
    fitted_on = 0
    if learned:
        held, labels = _held_out(store, names, held_out, loaded, task)
        if weights == APART:
            _check_models(loaded, held, names)
        kinds = store.taxonomy.kinds if weights == APART else KINDS[:1]
        shares = {
            kind: fit_share(
                [scores_of(p, kind, store.taxonomy) for p in held],
                getattr(labels, kind),
                mixture=mixture,
            )
            for kind in kinds
        }
        fitted_on = len(labels)
    else:
        shares = {"action": Share(weights=tuple(_given(weights, len(names)).tolist()))}
    account: Any = {kind: list(share.weights) for kind, share in shares.items()}
    return Fused(
        predictions=Predictions(
            uid=runs[0].uid,
            moment=_moment(runs, names),
            split=runs[0].split,
            taxonomy=runs[0].taxonomy,
            anchor=task.anchor,
            gap_s=task.gap_s,
            config={
                "fused": list(names),
                "weights": account if len(account) > 1 else account["action"],
                "mixture": mixture,
            },
            **_mixed(runs, shares, store.taxonomy, mixture),
        ),
        shares=shares,
        left_out=left_out,
        held_out=fitted_on,
    )


def _mixed(
    runs: Sequence[Predictions], shares: Mapping[str, Share], taxonomy: Taxonomy, mixture: str
) -> dict[str, NDArray[np.float32]]:
    """The fields of the fused predictions that hold scores."""
    own = all(p.verb_noun_scores is not None for p in runs)
    mixed = {}
    for kind, name in zip(KINDS, TENSORS, strict=True):
        share = shares.get(kind)
        if share is None and own:
            share = shares["action"]
        if share is not None:
            scores = [scores_of(p, kind, taxonomy) for p in runs]
            mixed[name] = mix(scores, np.asarray(share.weights), mixture).astype(np.float32)
    return mixed


def scores_of(predictions: Predictions, kind: str, taxonomy: Taxonomy) -> NDArray[np.floating]:
    """Scores (N, C) of actions, verbs or nouns: a run's own, else those that its actions make."""
    if kind == "action":
        return predictions.scores
    place = KINDS.index(kind) - 1
    pair = predictions.verb_noun_scores
    if pair is not None:
        return pair[place]
    with np.errstate(divide="ignore"):  # no action that is ranked has it: probability 0
        return np.asarray(np.log(verb_noun_marginals(predictions.scores, taxonomy)[place]))


def _check_models(
    fused: Sequence[Predictions], held: Sequence[Predictions], names: Sequence[str]
) -> None:
    """Refuse weights of verb classifiers for what actions say of verbs, and the other way round."""
    for name, *pair in zip(names, fused, held, strict=True):
        said = ["none" if p.verb_noun_scores is None else "its own" for p in pair]
        if said[0] != said[1]:
            raise BadConfig(
                "held-out predictions of another model than the one that is fused",
                where=name,
                expected=f"verb and noun scores: {said[0]}",
                found=said[1],
            )


def _held_out(
    store: Store,
    names: Sequence[str],
    held_out: Sequence[str] | None,
    fused: Sequence[Predictions],
    task: Task,
) -> tuple[list[Predictions], Segments]:
    """Predictions of H held-out segments, once per run, and the segments."""
    own = _held_out_names(names) if held_out is None else [str(name) for name in held_out]
    if len(own) != len(names):
        raise BadConfig("held-out predictions of other runs", expected=len(names), found=len(own))
    held, _ = _common([load_predictions(store, name) for name in own], own)
    _task(held, own, task)
    shared = np.isin(held[0].uid, np.concatenate([p.uid for p in fused]))
    if shared.any():
        raise BadConfig(
            "weights can't be fitted on the segments that are fused",
            where=own[0],
            found=f"{int(shared.sum())} of {len(shared)} segments in both",
            hint="train with --held-out and fuse its held-out videos",
        )
    labels = store.labels(held[0].split)
    return held, labels[rows_in(held[0], labels, own[0])]


def mix(scores: Sequence[NDArray[np.floating]], weights: Floats, mixture: str) -> Floats:
    """The mixture (N, C) of scores (N, C) each, as log-probabilities; of logits not normalised.

    Args:
        scores: M of logits or log-probabilities; `-inf` is probability 0.
        weights: (M,), at least 0, with sum 1. A run of weight 0 has no effect.
        mixture: one of `MIXTURES`.
    """
    used = [(s, w) for s, w in zip(scores, weights.tolist(), strict=True) if w > 0]
    out = np.empty(scores[0].shape)
    for rows in blocks(len(out)):
        logs = [(log_softmax(s[rows].astype(np.float64), axis=1), w) for s, w in used]
        if mixture == "logits":
            out[rows] = sum(w * own for own, w in logs)
        else:
            out[rows] = np.logaddexp.reduce([own + np.log(w) for own, w in logs], axis=0)
    return out


def fit_share(
    scores: Sequence[NDArray[np.floating]], truth: NDArray[np.int64], *, mixture: str
) -> Share:
    """See `fit_weights`."""
    weights, nll = fit_weights(scores, truth, mixture=mixture)
    return Share(weights=tuple(weights.tolist()), nll=nll)


def fit_weights(
    scores: Sequence[NDArray[np.floating]], truth: NDArray[np.int64], *, mixture: str
) -> tuple[Floats, tuple[float, ...]]:
    """Weights (M,) that minimise the mean -log p(truth), and that figure of each run and of all.

    Args:
        scores: M of (H, C).
        truth: (H,) ids of the true classes.
        mixture: one of `MIXTURES`.

    Raises:
        BadConfig: there is no segment, or a truth that no run gives a probability.
    """
    logs = [log_softmax(s.astype(np.float64), axis=1) for s in scores]
    own = np.stack([log[np.arange(len(truth)), truth] for log in logs])  # (M, H)
    impossible = np.isneginf(own)
    hopeless = impossible.any(axis=0) if mixture == "logits" else impossible.all(axis=0)
    if not len(truth) or hopeless.any():
        raise BadConfig(
            "weights can't be fitted",
            expected="segments, each with a probability for its true class",
            found=f"{int(hopeless.sum())} of {len(truth)} without one",
        )
    if mixture == "logits":
        weights, loss = _fit_geometric(logs, truth, own)
    else:
        peak = own.max(axis=0)
        weights = mixture_weights(np.exp(own - peak), rounds=ROUNDS)
        loss = -float((np.log(weights @ np.exp(own - peak)) + peak).mean())
    with np.errstate(invalid="ignore"):
        single = [float(-row.mean()) for row in own]
    return weights, (*single, loss)


def _fit_geometric(
    logs: Sequence[Floats], truth: NDArray[np.int64], own: Floats
) -> tuple[Floats, float]:
    """Weights of a mixture of logits, from log p (H, C) of each run, and p(truth) (M, H)."""
    finite = [np.where(np.isneginf(log), -1e30, log) for log in logs]
    runs, count = own.shape

    def loss_and_slope(weights: Floats) -> tuple[float, Floats]:
        total, slope = 0.0, np.zeros(runs)
        for rows in blocks(count):
            z = np.einsum("m,mhc->hc", weights, [log[rows] for log in finite])
            mixed = log_softmax(z, axis=1)
            total -= float(mixed[np.arange(len(z)), truth[rows]].sum())
            q = np.exp(mixed)
            slope += [float((q * np.maximum(log[rows], -1e6)).sum()) for log in finite]
        return total / count, (slope - own.sum(axis=1)) / count

    found = minimize(
        loss_and_slope,
        np.full(runs, 1 / runs),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * runs,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": CONVERGED},
    )
    weights = np.maximum(found.x, 0)
    weights /= weights.sum()
    return weights, loss_and_slope(weights)[0]


def _given(weights: str | Sequence[float], count: int) -> Floats:
    if weights == EQUAL:
        return np.full(count, 1 / count)
    try:
        share = np.asarray(weights, dtype=np.float64)
    except ValueError:
        share = np.zeros(0)
    possible = share.shape == (count,) and np.isfinite(share.sum()) and (share >= 0).all()
    if not possible or not share.any():
        raise BadConfig(
            "impossible weights",
            expected=f"{EQUAL}, {FITTED}, {APART}, or {count} numbers from 0 that are not all 0",
            found=weights,
        )
    return np.asarray(share / share.sum())


def _common(loaded: Sequence[Predictions], names: Sequence[str]) -> tuple[list[Predictions], int]:
    """The predictions on the segments that all have, in one order, and how many are left out."""
    first = loaded[0]
    for predictions, name in zip(loaded, names, strict=True):
        for what in ("split", "taxonomy"):
            expected, found = getattr(first, what), getattr(predictions, what)
            if expected != found:
                raise FingerprintMismatch(
                    f"predictions for another {what}", where=name, expected=expected, found=found
                )
    shared = np.logical_and.reduce([np.isin(first.uid, p.uid) for p in loaded])
    if not shared.any():
        raise FingerprintMismatch("the runs have no segment in common", where=", ".join(names))
    every = np.unique(np.concatenate([p.uid for p in loaded]))
    return [p[locate(p.uid, first.uid[shared])] for p in loaded], len(every) - int(shared.sum())


def _moment(runs: Sequence[Predictions], names: Sequence[str]) -> NDArray[np.str_] | None:
    """The moments of runs on the same segments, None where no run says.

    Raises:
        FingerprintMismatch: a uid is of two stretches of video.
    """
    first: tuple[str, NDArray[np.str_]] | None = None
    for run, name in zip(runs, names, strict=True):
        if first is not None:
            said = f"{first[0]} predicts"
            check_moments(run.uid, run.moment, first[1], name, anchor=run.anchor, than=said)
        elif run.moment is not None:
            first = name, run.moment
    return None if first is None else first[1]


def _task(loaded: Sequence[Predictions], names: Sequence[str], task: Task | None = None) -> Task:
    """What all were asked, and what the others of `task` were.

    Raises:
        FingerprintMismatch: they were not asked the same.
    """
    task = loaded[0].task if task is None else task
    for predictions, name in zip(loaded, names, strict=True):
        task = task.joined(predictions.task, name)
    return task


def _held_out_names(names: Sequence[str]) -> list[str]:
    files = [Path(name) / HELD_OUT for name in names]
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise NotFound(
            "no predictions of held-out videos",
            where=", ".join(missing),
            hint="train with --held-out, or name them with --held-out-predictions",
        )
    return [str(path) for path in files]
