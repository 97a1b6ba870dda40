"""Learns weights, temperatures and attention of a mixture of teachers from labelled rows.

Promise: the same rows and seed give the same mixture. The rows have to be of videos that no teacher
was trained on; `mixing.nested` sees to it that what is learned is scored on others, too.

A mixture's likelihood needs each teacher's probability of the true class only, as a function of its
temperature. That function is kept as a Chebyshev polynomial in log T per row (32 nodes, T from 0.2
to 5; within 3e-5 nats on rows of noise, far less on their mean), so that the M x N x C logits are
passed over once, and every fit after that takes seconds. Weights: expectation maximisation, which
climbs to the optimum on the simplex. Temperatures: a bounded search (Brent), one at a time.

Letters: M teachers, N segments, n rows, C classes, J Chebyshev nodes, F numbers of a summary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor

from antcache.checks import Count, Positive, Range, Seed, Weight, check_types, one_of
from antcache.errors import BadConfig
from antcache.evaluation.mixture_weights import mixture_weights
from antcache.progress import Progress, silent
from antcache.teacher.histories import deal_folds
from antcache.teacher.mixing.mixture import (
    LEARNED,
    MIXES,
    Floats,
    Logits,
    Mixture,
    attention_scores,
    check_shapes,
    chunks,
    log_mix,
    summarize,
)
from antcache.teacher.training import Descent

Ints = NDArray[np.int64]

NODES = 32
RANGE = (math.log(0.2), math.log(5.0))  # of log T
NEGLIGIBLE = 1e-6  # share of a teacher whose temperature can't be told
CHECK_STEPS = 10  # of the attention, between two looks at the videos held out


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """How teachers are mixed, and how that is learned."""

    mix: str = "mean"
    """One of `mixture.MIXES`."""
    balance: Annotated[float, Range(0, 2)] | None = 0.0
    """Exponent of the class prior that probabilities are divided by; None takes the one of 0, 0.1
    to 1 with the best class-mean recall@5 on the rows that the mixture is learned on."""
    folds: Annotated[int, Range(2)] = 5
    """Folds of videos; each is mixed by what was learned on the others."""
    seed: Seed = 0
    """Draws the folds, the videos that stop the attention early, and its first weights."""
    hidden: Count = 16
    """Attention: width of each teacher's hidden layer."""
    steps: Count = 1000
    """Attention: most steps of AdamW."""
    batch: Count = 4096
    """Attention: rows of a step."""
    lr: Positive = 0.01
    """Attention: learning rate."""
    weight_decay: Weight = 0.01
    """Attention: weight decay."""
    patience: Count = 100
    """Attention: steps without a gain on the videos held out (one fifth) that end it."""

    def __post_init__(self) -> None:
        check_types(self)
        one_of("mix", self.mix, MIXES)

    @property
    def needs_held_out(self) -> bool:
        """Whether anything is chosen by how well teachers do, so that none may know the rows."""
        return self.mix in LEARNED or self.balance is None

    @property
    def learns(self) -> bool:
        """Whether anything depends on the labels at all."""
        return self.needs_held_out or self.balance != 0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that weights, temperatures and attention are learned from, for n rows.

    Attributes:
        labels: (n,) true classes.
        group: (n,) int64, equal for the rows of one video.
        truth: (M, n, J) coefficients of log p(true class) over log T scaled to [-1, 1].
        summary: (M, n, F), see `mixture.summarize`; F is 0 where there is no attention.
    """

    labels: Ints
    group: Ints
    truth: Floats
    summary: Floats

    def __getitem__(self, rows: Ints | NDArray[np.bool_]) -> Evidence:
        """The evidence of some rows."""
        return Evidence(
            labels=self.labels[rows],
            group=self.group[rows],
            truth=self.truth[:, rows],
            summary=self.summary[:, rows],
        )

    def log_p(self, temperatures: Sequence[float]) -> Floats:
        """Log-probabilities (M, n) of the true classes."""
        pairs = zip(self.truth, temperatures, strict=True)
        return np.stack([_at(truth, math.log(t)) for truth, t in pairs])


def gather_evidence(
    logits: Logits,
    labels: Ints,
    group: Ints,
    rows: Ints,
    *,
    summary: bool = False,
    progress: Progress = silent,
) -> Evidence:
    """One pass over M arrays (N, C) at `rows` (n,); `labels` and `group` are (N,).

    Raises:
        BadConfig: arrays of unequal shapes, or one teacher where summaries are asked for.
    """
    check_shapes(logits, len(logits))
    if summary and len(logits) < 2:
        raise BadConfig("attention needs at least two teachers")
    nodes = chebyshev.chebpts1(NODES)
    to_coefficients = np.linalg.inv(chebyshev.chebvander(nodes, NODES - 1)).T
    betas = np.exp(-(nodes + 1) / 2 * (RANGE[1] - RANGE[0]) - RANGE[0])
    truth = np.empty((len(logits), len(rows), NODES))
    summaries: list[Floats] = [np.empty((len(logits), 0, 0))]
    for part, chunk in chunks(logits, rows):
        chunk -= chunk.max(axis=-1, keepdims=True)
        own = np.take_along_axis(chunk, labels[rows[part]][None, :, None], axis=-1)
        single = chunk.astype(np.float32)  # half the time, and still 1e-6
        for j, beta in enumerate(betas):
            total = np.exp(single * np.float32(beta)).sum(axis=-1, dtype=np.float32)
            truth[:, part, j] = own[..., 0] * beta - np.log(total)
        if summary:
            summaries.append(summarize(log_softmax(chunk, axis=-1)))
        progress("teachers compared", part.stop, len(rows))
    return Evidence(
        labels=labels[rows],
        group=group[rows],
        truth=truth @ to_coefficients,
        summary=np.concatenate(summaries[1:], axis=1) if summary else truth[..., :0],
    )


def stack(evidence: Evidence, members: Sequence[str]) -> Mixture:
    """Weights and temperatures with the least negative log-likelihood of the true classes."""
    count = len(evidence.truth)
    log_t, weights = np.zeros(count), np.full(count, 1 / count)
    log_p = evidence.log_p((1.0,) * count)
    last = -np.inf
    for _ in range(200):
        weights = mixture_weights(np.exp(log_p - log_p.max(axis=0)), start=weights)
        for m in np.flatnonzero(weights > NEGLIGIBLE):
            with np.errstate(divide="ignore"):
                parts = log_p + np.log(weights)[:, None]
            others = np.logaddexp.reduce(np.delete(parts, m, axis=0), axis=0)  # -inf: no others
            nats = partial(_nats, evidence.truth[m], others, math.log(weights[m]))
            log_t[m] = minimize_scalar(nats, bounds=RANGE, method="bounded").x
            log_p[m] = _at(evidence.truth[m], log_t[m])
        with np.errstate(divide="ignore"):
            now = float(log_mix(log_p, np.log(weights)[:, None]).mean())
        if now - last < 1e-8:
            break
        last = now
    return Mixture(
        members=tuple(members),
        kind="stack",
        weights=tuple((weights / weights.sum()).tolist()),
        temperatures=tuple(np.exp(log_t).tolist()),
    )


def attention(evidence: Evidence, base: Mixture, config: MixConfig) -> Mixture:
    """A network that starts as the stack `base`, and leaves it as long as held-out videos gain.

    Cross-entropy of the mixed probabilities by AdamW on four fifths of the videos; the weights are
    those of the step with the least on the last fifth, the first one (the stack) included. The
    stack has seen that fifth, so the comparison is strict rather than kind.
    """
    summary = evidence.summary
    teachers, _, size = summary.shape
    videos = len(np.unique(evidence.group))
    stop = deal_folds(evidence.group, min(5, videos), config.seed + 1) == 0
    generator = torch.Generator().manual_seed(config.seed)
    shape = (teachers, size, config.hidden)
    first = torch.randn(shape, generator=generator, dtype=torch.float64) / math.sqrt(size)
    log_w = np.log(np.maximum(base.weights, NEGLIGIBLE))[:, None, None]
    kept = {
        "mean": torch.from_numpy(summary.mean(axis=1)),
        "scale": torch.from_numpy(summary.std(axis=1) + 1e-6),
    }
    learned = {
        "in_weight": first,
        "in_bias": torch.zeros(teachers, 1, config.hidden, dtype=torch.float64),
        "out_weight": torch.zeros(teachers, config.hidden, 1, dtype=torch.float64),
        "out_bias": torch.from_numpy(log_w),
    }
    for tensor in learned.values():
        tensor.requires_grad_()
    descent = Descent(
        learned.values(), betas=(0.9, 0.999), lr=config.lr, weight_decay=config.weight_decay
    )
    x, log_p = torch.from_numpy(summary), torch.from_numpy(evidence.log_p(base.temperatures))
    fit, held_out = (torch.from_numpy(np.flatnonzero(part)) for part in (~stop, stop))
    least, waited = math.inf, 0
    best: dict[str, Floats] = {}
    for step in range(config.steps + 1):
        if step % CHECK_STEPS == 0:
            with torch.no_grad():
                nats = _attended(x[:, held_out], log_p[:, held_out], kept | learned)
            waited += CHECK_STEPS
            if float(nats) < least:
                least, waited = float(nats), 0
                best = {k: v.detach().numpy().copy() for k, v in (kept | learned).items()}
            if waited > config.patience:
                break
        drawn = torch.randint(len(fit), (min(config.batch, len(fit)),), generator=generator)
        descent.step([_attended(x[:, fit[drawn]], log_p[:, fit[drawn]], kept | learned)])
    return replace(base, kind="attention", network=best)


def _attended(summary: Tensor, log_p: Tensor, network: Mapping[str, Tensor]) -> Tensor:
    """Cross-entropy () of teachers with log p(true class) (M, n), mixed by the network."""
    shares = attention_scores(summary, network).log_softmax(0)
    return -(shares + log_p).logsumexp(0).mean()


def _at(truth: Floats, log_t: float) -> Floats:
    """The polynomials (n, J) at one temperature: (n,)."""
    x = 2 * (log_t - RANGE[0]) / (RANGE[1] - RANGE[0]) - 1
    values: Floats = truth @ chebyshev.chebvander(np.array([x]), NODES - 1)[0]
    return values


def _nats(truth: Floats, others: Floats, log_weight: float, log_t: float) -> float:
    """Negative log-likelihood with one teacher at a temperature, and `others` (n,) as they are."""
    return -float(np.logaddexp(others, log_weight + _at(truth, log_t)).mean())
