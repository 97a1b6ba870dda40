"""What is said of the next action in 50 Salads by teachers that hear the recogniser, and by an HMM.

Promise: what is said of a segment depends on the scores up to `gap` seconds before its start and on
nothing later of its video; what is learned is learned from the training videos of a store. Letters:
N segments, R rows of a video, C actions, D scores.

- The recogniser's scores become likelihoods of the frame by softmax regression on the training
  videos, divided by how often each action is under way there.
- The HMM has a state for each action; actions last as in the training videos on average, and
  follow each other as there (counts, one added to each). Its forward filter says how likely each
  action is under way; what comes next is what follows it.
- `run_histories`: the teacher's history is what the filter holds most likely, row by row, in runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from salads_data import SCORES, make_store
from scipy.special import log_softmax

from antcache.annotations import Segments
from antcache.store import Store
from antcache.teacher.base import Teacher, make_teacher
from antcache.teacher.histories import Examples, Timeline
from antcache.teacher.noise import corrupt, relabeled
from antcache.teacher.recognizing.beam import BeamConfig, GuessedHistory
from antcache.teacher.recognizing.durations import Durations
from antcache.teacher.teach import history_for

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RIDGE = 0.01
LEAST_S = 3
"""Rows of a run that counts as an action."""


def rows_of(store: Store, video: str, segments: Segments) -> Ints:
    """Last row (N,) that may be seen of segments of one video; negative where there is none."""
    moment = segments.start_s - store.protocol.gap_s
    rows: Ints = store.features(SCORES, video).rows_at(moment)
    return rows


def by_video(segments: Segments) -> Iterator[tuple[str, Ints]]:
    """Each video with the places of its segments, in order of their starts."""
    for video in segments.videos:
        places = np.flatnonzero(segments.video == video)
        yield str(video), places[np.argsort(segments.start_s[places], kind="stable")]


def scores_of(store: Store, video: str) -> Floats:
    """(R, D) of a video."""
    return np.asarray(store.features(SCORES, video).read(), dtype=np.float64)


def under_way(store: Store, video: str, segments: Segments) -> Ints:
    """Action (R,) that is under way at each row; -1 at none. `segments` are those of the video."""
    seconds = store.features(SCORES, video).seconds
    place = np.searchsorted(segments.start_s, seconds, side="right") - 1
    inside = (place >= 0) & (seconds < segments.stop_s[np.maximum(place, 0)])
    return np.where(inside, segments.action[np.maximum(place, 0)], -1)


class FrameRegression:
    """Log-likelihoods of frames; see the module."""

    def __init__(self, store: Store) -> None:
        train, actions = store.labels("train"), len(store.taxonomy.actions)
        pairs = [
            (scores_of(store, video), under_way(store, video, train[places]))
            for video, places in by_video(train)
        ]
        x, y = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        x, y = x[y >= 0], y[y >= 0]
        self.mean, self.deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
        self.prior = np.log(np.bincount(y, minlength=actions) + 1.0)
        self.weight, self.bias = softmax_regression(
            (x - self.mean) / self.deviation, y, actions, RIDGE
        )

    def likelihood(self, scores: Floats) -> Floats:
        """(R, C) of scores (R, D)."""
        logits = (scores - self.mean) / self.deviation @ self.weight + self.bias
        return np.asarray(log_softmax(logits, axis=1) - self.prior)


def softmax_regression(x: Floats, y: Ints, classes: int, ridge: float) -> tuple[Floats, Floats]:
    """Weights (D, C) and biases (C,) of least mean loss and ridge penalty."""
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    weight = torch.zeros(x.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(inputs @ weight + bias, labels)
        loss = loss + ridge * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach().numpy(), bias.detach().numpy()


class Hmm:
    """A forward filter; see the module."""

    def __init__(self, store: Store) -> None:
        train, classes = store.labels("train"), len(store.taxonomy.actions)
        follows, first = np.ones((classes, classes)), np.ones(classes)
        np.fill_diagonal(follows, 0.0)
        for _, places in by_video(train):
            actions = train.action[places].tolist()
            first[actions[0]] += 1
            for one, other in pairwise(actions):
                follows[one, other] += one != other
        self.next = follows / follows.sum(axis=1, keepdims=True)
        self.first = first / first.sum()
        lasted = train.stop_s - train.start_s
        counts = np.bincount(train.action, minlength=classes)
        total = np.bincount(train.action, weights=lasted, minlength=classes)
        mean = (total + lasted.mean()) / (counts + 1)
        stay = np.clip(1 - 1 / mean, 0.0, None)  # a row is a second
        self.step = np.diag(stay) + (1 - stay)[:, None] * self.next

    def filtered(self, likelihood: Floats) -> Floats:
        """(R, C) how likely each action is under way, by the rows up to each."""
        out = np.empty_like(likelihood)
        now = self.first
        for row, own in enumerate(likelihood):
            now = (now if row == 0 else now @ self.step) * np.exp(own - own.max())
            now = now / now.sum()
            out[row] = now
        return out

    def expect(self, filtered: Floats, rows: Ints) -> Floats:
        """Log-probabilities (N, C) of what comes after each of `rows` (N,)."""
        return np.asarray(np.log(filtered[rows] @ self.next + 1e-12))


def run_histories(filtered: Floats, rows: Ints, length: int) -> Ints:
    """Histories (N, h): the runs of the likeliest action up to each of `rows` (N,).

    Runs shorter than `LEAST_S` rows are dropped, but for the one under way, and then runs of one
    action that touch are one.
    """
    best = filtered.argmax(axis=1).tolist()
    out = np.full((len(rows), length), -1, dtype=np.int64)
    for history, row in zip(out, rows.tolist(), strict=True):
        runs = [(action, sum(1 for _ in run)) for action, run in groupby(best[: row + 1])]
        kept = [a for n, (a, c) in enumerate(runs) if c >= LEAST_S or n == len(runs) - 1]
        past = [action for action, _ in groupby(kept)][-length:]
        history[length - len(past) :] = past
    return out


def ask(teacher: Teacher, history: Ints) -> Floats:
    """Log-probabilities (N, C) of a teacher after histories (N, h)."""
    none = np.zeros(len(history), dtype=np.int64)
    told = Examples(history=history, target=none, group=none)
    return np.asarray(log_softmax(teacher.predict(told).logits.astype(np.float64), axis=1))


TRUSTS = (0.5, 0.8)
"""Powers of the frames' likelihoods that are tried; see `antcache.teacher.recognizing`."""
WIDTH = 30
"""Guesses that are kept."""
WRONG = (0.25, 0.5)


def rivals(work: Path, held: tuple[int, ...]) -> dict[str, Floats]:
    """Log-probabilities (N, C) of the segments that are asked for, by who says so; kept."""
    from salads_runs import asked

    kept = work / f"rivals-{'-'.join(map(str, held))}.npz"
    if not kept.is_file():
        store = make_store(work, held)
        staged = work / f".{os.getpid()}-{kept.name}"
        np.savez(staged, **without_students(store, asked(store)))
        staged.rename(kept)
        print(f"rivals without {held}", flush=True)
    with np.load(kept) as arrays:
        return {name: arrays[name] for name in arrays.files}


def without_students(store: Store, segments: Segments) -> dict[str, Floats]:
    """What HMM and teachers say of validation segments (N,); see `rivals`."""
    train = store.labels("train")
    line = Timeline.of({"train": train, "validation": store.labels("validation")}, store.taxonomy)
    history = history_for(store)
    teacher = make_teacher("count", store.taxonomy)
    length = teacher.config.length
    examples = line.examples(history, length)
    teacher.fit(examples[np.flatnonzero(line.split == "train")])
    place = line.segments.locate(segments.uid)
    said = {"teacher, history true": ask(teacher, examples.history[place])}
    for rate in WRONG:
        wrong = corrupt(line.segments.action, store.taxonomy, rate, kind="uniform")
        noisy = relabeled(line, wrong, history, length)
        said[f"teacher, history {rate:.0%} wrong"] = ask(teacher, noisy.history[place])
    durations = Durations.of(train, len(store.taxonomy.actions))
    frames, hmm = FrameRegression(store), Hmm(store)
    listeners = {
        f"teacher, history guessed, trust {trust}": GuessedHistory(
            teacher=teacher, durations=durations, config=BeamConfig(trust=trust, width=WIDTH)
        )
        for trust in TRUSTS
    }
    empty = np.empty((len(segments), len(store.taxonomy.actions)))
    said |= {name: empty.copy() for name in ("HMM", "teacher, history of runs", *listeners)}
    for video, places in by_video(segments):
        rows = rows_of(store, video, segments[places])
        likelihood = frames.likelihood(scores_of(store, video))
        filtered = hmm.filtered(likelihood)
        said["HMM"][places] = hmm.expect(filtered, rows)
        runs = run_histories(filtered, rows, length)
        said["teacher, history of runs"][places] = ask(teacher, runs)
        for name, listener in listeners.items():
            said[name][places] = listener.expect(likelihood, rows)
    return said
