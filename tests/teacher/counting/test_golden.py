"""The count teacher says what it said when every probability was computed for all classes.

`golden.json` was written by that version: weights of the mixture, probabilities of what came next,
and sums of squares over all classes, trained on the first videos of real labels and on generated
single labels.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy, read_annotations
from antcache.teacher.counting.teacher import CountConfig, CountTeacher
from antcache.teacher.histories import HistoryConfig, Timeline

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text("utf-8"))
VIDEOS = {"epic-kitchens-55": {"train": 24, "validation": 6}, "egtea": {"train": 20}}
ASKED = 25


def first_videos(dataset: str, data_dir: Path) -> Timeline:
    """The first videos of each split, as many as `VIDEOS` says, or all that are among those."""
    read = read_annotations(dataset, data_dir / dataset)
    splits, names = {}, []
    for split, segments in read.splits.items():
        count = VIDEOS[dataset].get(split)
        names = names if count is None else sorted(set(segments.video.tolist()))[:count]
        splits[split] = segments[np.flatnonzero(np.isin(segments.video, names))]
    return Timeline.of(splits, read.taxonomy)


def single_labels() -> Timeline:
    """Twelve videos of 40 actions without verb and noun; many follow the one before in a ring."""
    rng = np.random.default_rng(0)
    action = np.cumsum(rng.integers(1, 3, size=480) * (rng.random(480) < 0.8)) % 9
    video = np.repeat(np.arange(12), 40)
    start = np.tile(np.arange(40) * 3.0, 12) + rng.random(480)
    segments = Segments.of(
        uid=[f"{i}" for i in range(480)],
        video=[f"v{v:02d}" for v in video],
        start_s=start,
        stop_s=start + 1 + rng.random(480),
        verb=np.full(480, -1),
        noun=np.full(480, -1),
        action=action,
    )
    taxonomy = Taxonomy(
        dataset="ring",
        verbs=(),
        nouns=(),
        actions=tuple("abcdefghi"),
        action_verbs=(),
        action_nouns=(),
    )
    splits = {"train": segments[np.flatnonzero(video < 10)]}
    splits["validation"] = segments[np.flatnonzero(video >= 10)]
    return Timeline.of(splits, taxonomy)


def asked_and_taught(timeline: Timeline, mode: str, config: CountConfig) -> tuple:
    """A teacher that was trained, and the first examples of the validation split."""
    examples = timeline.examples(HistoryConfig(mode=mode), config.length, times=config.times)
    teacher = CountTeacher(timeline.taxonomy, config)
    teacher.fit(examples[timeline.split == "train"])
    return teacher, examples[np.flatnonzero(timeline.split == "validation")[:ASKED]]


def numbers(timeline: Timeline, mode: str, config: CountConfig) -> dict[str, list]:
    """What is kept of a teacher; probabilities before they are rounded to float32."""
    teacher, asked = asked_and_taught(timeline, mode, config)
    rows, depth = teacher._models(asked)
    p = np.einsum("qm,mqc->qc", teacher._weights[depth], rows)
    return {
        "weights": teacher._weights.tolist(),
        "truth": p[np.arange(len(asked)), asked.target].tolist(),
        "squares": (p**2).sum(axis=1).tolist(),
    }


@pytest.mark.parametrize("kept", GOLDEN, ids=lambda kept: f"{kept['dataset']}-{kept['mode']}")
def test_nothing_that_it_says_has_changed(request, kept):
    config = CountConfig(**kept["config"])
    if kept["dataset"] == "ring":
        timeline = single_labels()
    else:
        timeline = first_videos(kept["dataset"], request.getfixturevalue("data_dir"))
    found = numbers(timeline, kept["mode"], config)
    for name, value in found.items():
        np.testing.assert_allclose(value, kept[name], rtol=1e-9, atol=0, err_msg=name)


@pytest.mark.parametrize("times", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_a_target_alone_has_the_probability_that_it_has_among_all(timeline, single, times):
    line = single_labels() if single else timeline
    teacher, asked = asked_and_taught(line, "complete", CountConfig(times=times, order=5))
    rows, depths = teacher._models(asked)
    alone, depth = teacher._targets(asked)
    np.testing.assert_allclose(alone, rows[:, np.arange(len(asked)), asked.target], rtol=1e-12)
    np.testing.assert_array_equal(depth, depths)
    # Whatever came next, not only what did.
    other = replace(asked, target=(asked.target + 1) % len(line.taxonomy.actions))
    np.testing.assert_allclose(
        teacher._targets(other)[0], rows[:, np.arange(len(asked)), other.target], rtol=1e-12
    )
