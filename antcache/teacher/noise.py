"""Histories as a recogniser sees them: labels that are wrong at random, or a student's own.

Promise: a past segment is recognised once, so that it has the same label in every history that it
is in; what is to be predicted keeps its true label. The same seed gives the same mistakes, and the
mistakes at a low rate are among those at a higher one. A segment that was not recognised is absent:
the histories do not hold it, and an older one takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy
from antcache.checks import Range, one_of, within
from antcache.errors import BadConfig, FingerprintMismatch
from antcache.evaluation.predictions import Predictions, check_moments
from antcache.teacher.histories import Examples, HistoryConfig, Timeline

Actions = NDArray[np.int64]
ABSENT = -1

NOISE_KINDS = ("uniform", "confused")


def noise_kinds(taxonomy: Taxonomy) -> tuple[str, ...]:
    """Kinds of noise that there can be: single labels share no verb or noun to be confused by."""
    return NOISE_KINDS if taxonomy.paired else NOISE_KINDS[:1]


def corrupt(
    actions: Actions, taxonomy: Taxonomy, rate: float, *, kind: str = "confused", seed: int = 0
) -> Actions:
    """Replace each label with the probability `rate` by a wrong one.

    Args:
        actions: (N,) true actions.
        taxonomy: the C actions.
        rate: share of wrong labels, 0 to 1.
        kind: one of `noise_kinds`. `uniform`: any other action; `confused`: as a recogniser errs,
            in half of the mistakes the same verb with another noun, in the other half the same noun
            with another verb. An action that shares its verb (noun) with none takes the other half,
            one that shares neither any other action.
        seed: decides which labels are wrong, and what is in their place.

    Raises:
        BadConfig: a kind that is unknown, or that these actions can't have; rate out of range, or a
            taxonomy of a single action.
    """
    one_of("kind of noise", kind, noise_kinds(taxonomy))
    within("noise", rate, Range(0, 1))
    count = len(taxonomy.actions)
    if count < 2:
        raise BadConfig("a label can only be wrong among several actions", found=count)
    rng = np.random.default_rng(seed)
    draw, half, choice = rng.random((3, len(actions)))
    other = (actions + 1 + (choice * (count - 1)).astype(np.int64)) % count
    if kind == "confused":
        same_verb = _sibling(actions, taxonomy.verb_of, choice)
        same_noun = _sibling(actions, taxonomy.noun_of, choice)
        first = np.where(half < 0.5, same_verb, same_noun)
        second = np.where(half < 0.5, same_noun, same_verb)
        near = np.where(first >= 0, first, second)
        other = np.where(near >= 0, near, other)
    return np.where(draw < rate, other, actions)


def _sibling(actions: Actions, class_of: NDArray[np.int64], choice: NDArray[np.float64]) -> Actions:
    """Another action (N,) of the same class, picked by `choice` (N,) in [0, 1); -1 without one."""
    order = np.argsort(class_of, kind="stable")
    sizes = np.bincount(class_of)
    first = np.concatenate([[0], sizes.cumsum()[:-1]])
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    group = class_of[actions]
    others = sizes[group] - 1
    step = 1 + (choice * others).astype(np.int64)
    picked = order[first[group] + (place[actions] - first[group] + step) % sizes[group]]
    return np.where(others > 0, picked, -1)


def recognized(timeline: Timeline, predictions: Sequence[Predictions]) -> Actions:
    """The action (N,) that predictions rank first for each segment, ABSENT where there are none.

    Args:
        timeline: N segments.
        predictions: of one or more splits; their segments may be any of the timeline's.

    Raises:
        FingerprintMismatch: they are for another taxonomy, for no segment of the timeline, or for
            other ones of the same uids.
        BadConfig: two of them are for the same segment.
    """
    actions = np.full(len(timeline.segments), ABSENT, dtype=np.int64)
    for part in predictions:
        part.check_taxonomy(timeline.taxonomy, where=f"predictions of {part.split!r}")
        rows = timeline.segments.locate(part.uid)
        known = rows >= 0
        if not known.any():
            raise FingerprintMismatch(
                "predictions for none of the segments of these videos",
                where=f"predictions of {part.split!r}",
                hint="give those of the split that is scored",
            )
        rows, part = rows[known], part[known]
        now = timeline.segments[rows].moments()
        where = f"predictions of {part.split!r}"
        check_moments(part.uid, part.moment, now, where, anchor=part.anchor)
        if (actions[rows] != ABSENT).any():
            raise BadConfig("two files of predictions are for the same segment")
        actions[rows] = part.scores.argmax(axis=1)
    return actions


def relabeled(
    timeline: Timeline,
    actions: Actions,
    config: HistoryConfig,
    length: int,
    *,
    times: bool = False,
) -> Examples:
    """The examples of a timeline whose past segments bear the labels `actions`.

    Args:
        timeline: N segments.
        actions: (N,) label of each as a past segment; ABSENT leaves it out of every history.
        config: what counts as having come before.
        length: h, past actions at most.
        times: also when they began and how long they have lasted.

    Returns:
        N examples with the true actions as targets.
    """
    segments = timeline.segments
    renamed = replace(timeline, segments=replace(segments, action=actions))
    absent = actions == ABSENT
    # As far back as h recognised ones can lie, then without what is absent.
    reach = length + int(np.bincount(timeline.video_ids[absent], minlength=1).max())
    examples = renamed.examples(config, reach, times=times)
    order = np.argsort(examples.history >= 0, axis=1, kind="stable")[:, -length:]
    history = np.take_along_axis(examples.history, order, axis=1)

    def kept(array: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        if array is None:
            return None
        values = np.take_along_axis(array, order, axis=1)
        return np.where(history >= 0, values, np.float32(np.nan))

    return replace(
        examples,
        history=history,
        target=segments.action,
        ago_s=kept(examples.ago_s),
        lasted_s=kept(examples.lasted_s),
    )
