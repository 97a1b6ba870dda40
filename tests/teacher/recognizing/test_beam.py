"""Guessed histories: the truth where frames are clear, all of the past, nothing of the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax

from antcache.annotations import Segments, Taxonomy
from antcache.errors import BadConfig
from antcache.teacher.base import make_teacher
from antcache.teacher.histories import HistoryConfig, Timeline
from antcache.teacher.recognizing.beam import BeamConfig, GuessedHistory
from antcache.teacher.recognizing.durations import Durations

NAMES = ("wash", "peel", "cut", "fry", "serve", "eat")
CLASSES = len(NAMES)
TAXONOMY = Taxonomy(
    dataset="own", verbs=(), nouns=(), actions=NAMES, action_verbs=(), action_nouns=()
)


def script(rng):
    """Two ways through a meal: what comes after `cut` depends on how it began."""
    return [0, 2, 4, 5] if rng.random() < 0.5 else [1, 2, 3, 5]


@pytest.fixture(scope="module")
def line():
    """Forty videos of a script each, whose actions last 3 to 9 s."""
    rng = np.random.default_rng(0)
    rows = []
    for video in range(40):
        start = 0.0
        for action in script(rng):
            stop = start + int(rng.integers(3, 10))
            rows.append((f"{video}_{action}", f"v{video:02d}", start, stop, action))
            start = stop
    uid, video, start_s, stop_s, action = zip(*rows, strict=True)
    none = [-1] * len(uid)
    segments = Segments.of(
        uid=uid, video=video, start_s=start_s, stop_s=stop_s, verb=none, noun=none, action=action
    )
    return Timeline.of({"train": segments}, TAXONOMY)


@pytest.fixture(scope="module")
def teacher(line):
    made = make_teacher("count", TAXONOMY)
    made.fit(line.examples(HistoryConfig(), made.config.length))
    return made


@pytest.fixture(scope="module")
def guessed(line, teacher):
    return GuessedHistory(teacher=teacher, durations=Durations.of(line.segments, CLASSES))


def frames(line, video, sure, seed=0):
    """Log-likelihoods (R, C), one row a second, of a video whose true action is `sure` likelier."""
    own = line.segments[np.flatnonzero(line.segments.video == video)]
    actions = np.repeat(own.action, (own.stop_s - own.start_s).astype(int))
    noise = np.random.default_rng(seed).standard_normal((len(actions), CLASSES))
    return sure * np.eye(CLASSES)[actions] + noise, own


def told(teacher, line, uids):
    """What the teacher says after true histories, and never the action that has just ended."""
    place = line.segments.locate(np.array(uids))
    examples = line.examples(HistoryConfig(), teacher.config.length)[place]
    logits = teacher.predict(examples).logits.astype(float)
    last = examples.history[:, -1]
    logits[last >= 0, last[last >= 0]] = -1e9
    return log_softmax(logits, axis=1)


def test_where_frames_are_clear_it_says_what_the_teacher_says_of_the_truth(line, teacher, guessed):
    for video in line.segments.videos[:6]:
        likelihood, own = frames(line, video, 40.0)
        said = guessed.expect(likelihood, own.start_s[1:].astype(int) - 1)
        expected = told(teacher, line, own.uid[1:].tolist())
        np.testing.assert_allclose(np.exp(said), np.exp(expected), atol=0.02)


def test_the_past_decides_where_the_present_does_not(line, guessed):
    """After `cut`, which both scripts have, it is told by what began."""
    right = []
    for seed, video in enumerate(line.segments.videos[:10]):
        likelihood, own = frames(line, video, 3.0, seed)
        said = guessed.expect(likelihood, own.start_s[2:3].astype(int) - 1)
        right.append(said.argmax() == own.action[2])
    assert np.mean(right) >= 0.9


def test_what_is_said_depends_on_no_later_row(line, guessed):
    likelihood, own = frames(line, "v03", 1.0)
    rows = own.start_s[1:].astype(int) - 1
    said = guessed.expect(likelihood, rows)
    for row, before in zip(rows, said, strict=True):
        changed = likelihood.copy()
        changed[row + 1 :] = np.random.default_rng(1).standard_normal(changed[row + 1 :].shape)
        np.testing.assert_array_equal(guessed.expect(changed, np.array([row]))[0], before)
        np.testing.assert_array_equal(
            guessed.expect(likelihood[: row + 1], np.array([row]))[0], before
        )


def test_rows_may_come_in_any_order_and_twice(line, guessed):
    likelihood, _ = frames(line, "v05", 1.0)
    rows = np.array([9, 2, 9, 0])
    said = guessed.expect(likelihood, rows)
    np.testing.assert_array_equal(said[0], said[2])
    np.testing.assert_array_equal(said[1:2], guessed.expect(likelihood, rows[1:2]))
    np.testing.assert_allclose(np.exp(said).sum(axis=1), 1.0)
    assert guessed.expect(likelihood, rows[:0]).shape == (0, CLASSES)


def test_row_by_row_it_says_the_same(line, guessed):
    """And before the first one, what a video begins with."""
    likelihood, _ = frames(line, "v04", 1.0)
    listening = guessed.listen()
    first = np.exp(listening.expected())
    assert first[:2].sum() > 0.8  # both scripts begin with one of these
    said = guessed.expect(likelihood, np.arange(len(likelihood)))
    for row, expected in zip(likelihood, said, strict=True):
        listening.hear(row)
        np.testing.assert_array_equal(listening.expected(), expected)


def searched(guessed, likelihood):
    """Probabilities after each row, by every guess that could follow, sorted."""
    config, durations, length = guessed.config, guessed.durations, guessed.teacher.config.length
    guesses = [((), new, 0, weight) for new, weight in enumerate(guessed._ask([()])[0].tolist())]
    for row, frame in enumerate(likelihood):
        seen = config.trust * frame
        following = []
        for past, action, lasted, weight in guesses:
            if row == 0:
                following.append((past, action, lasted, weight + seen[action]))
                continue
            ends = durations.chance(np.array(action), np.array(lasted))
            stay = weight + np.log1p(-ends) + seen[action]
            following.append((past, action, lasted + 1, stay))
            history = (*past, action)[-length:]
            for new, answer in enumerate(guessed._ask([history])[0]):
                begin = weight + np.log(ends) + answer + seen[new]
                following.append((history, new, 0, begin))
        guesses = sorted(following, key=lambda guess: -guess[-1])[: config.width]
        expected = np.zeros(CLASSES)
        for past, action, lasted, weight in guesses:
            ends = durations.chance(np.array(action), np.array(lasted + config.ahead))
            expected += np.exp(weight) * ends * np.exp(guessed._ask([(*past, action)[-length:]])[0])
        yield expected / expected.sum()


@pytest.mark.parametrize("width", [1, 2, 5, 40, 1000])
def test_the_likeliest_guesses_are_kept(line, teacher, guessed, width):
    """As by looking at each one that could follow."""
    narrow = replace(guessed, teacher=teacher, config=BeamConfig(width=width))
    likelihood = frames(line, "v06", 1.0)[0][:8]
    said = narrow.expect(likelihood, np.arange(len(likelihood)))
    for ours, theirs in zip(said, searched(narrow, likelihood), strict=True):
        np.testing.assert_allclose(np.exp(ours), theirs, rtol=1e-9, atol=1e-12)


def test_what_is_remembered_of_the_teacher_has_a_bound(line, teacher, monkeypatch):
    """And what is forgotten is asked again: nothing else changes."""
    durations = Durations.of(line.segments, CLASSES)
    likelihood = np.random.default_rng(3).normal(0, 8, (60, CLASSES))
    rows = np.arange(len(likelihood))
    config = BeamConfig(width=8)
    free = GuessedHistory(teacher=teacher, durations=durations, config=config)
    said = free.expect(likelihood, rows)
    assert len(free._answers) > 100
    monkeypatch.setattr("antcache.teacher.recognizing.beam.ANSWERS_BYTES", 40 * 8 * CLASSES)
    bound = GuessedHistory(teacher=teacher, durations=durations, config=config)
    np.testing.assert_array_equal(bound.expect(likelihood, rows), said)
    assert len(bound._answers) <= 40


def test_a_number_that_all_actions_share_changes_nothing(line, guessed):
    likelihood, own = frames(line, "v07", 1.0)
    rows = own.start_s[1:].astype(int) - 1
    shifted = likelihood + np.random.default_rng(2).normal(0, 50, (len(likelihood), 1))
    np.testing.assert_allclose(
        guessed.expect(shifted, rows), guessed.expect(likelihood, rows), atol=1e-6
    )


def test_an_action_does_not_follow_itself(line, guessed):
    likelihood, own = frames(line, "v01", 40.0)
    said = guessed.expect(likelihood, own.start_s[1:].astype(int) - 1)
    assert (np.exp(said[np.arange(len(said)), own.action[:-1]]) < 1e-6).all()


def test_more_guesses_find_a_likelier_past(line, teacher):
    """With one guess what looked best at first is never taken back."""
    durations = Durations.of(line.segments, CLASSES)

    def right(width):
        config = BeamConfig(width=width)
        own = GuessedHistory(teacher=teacher, durations=durations, config=config)
        hits = []
        for seed, video in enumerate(line.segments.videos):
            likelihood, segments = frames(line, video, 1.0, seed)
            said = own.expect(likelihood, segments.start_s[1:].astype(int) - 1)
            hits += (said.argmax(axis=1) == segments.action[1:]).tolist()
        return np.mean(hits)

    assert right(50) > right(1) + 0.02  # 114 of 120 and 108


def test_what_does_not_fit_is_refused(line, teacher):
    durations = Durations.of(line.segments, CLASSES)
    own = GuessedHistory(teacher=teacher, durations=durations)
    likelihood = np.zeros((5, CLASSES))
    with pytest.raises(BadConfig, match="likelihoods of other actions"):
        own.expect(likelihood[:, 1:], np.array([0]))
    with pytest.raises(BadConfig, match="likelihoods must be finite"):
        own.expect(np.full_like(likelihood, np.nan), np.array([0]))
    for row in (-1, 5):
        with pytest.raises(BadConfig, match="no such row: expected 0 to 4"):
            own.expect(likelihood, np.array([row]))
    with pytest.raises(BadConfig, match="durations of other actions"):
        GuessedHistory(teacher=teacher, durations=replace(durations, ends=durations.ends[1:]))
    timed = make_teacher("count", TAXONOMY, {"times": True})
    with pytest.raises(BadConfig, match="no times to tell the teacher"):
        GuessedHistory(teacher=timed, durations=durations)
