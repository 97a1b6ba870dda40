"""Figures of long-term anticipation, by examples that are worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from antcache.errors import BadConfig
from antcache.evaluation.long_term import (
    edit_distance,
    edit_distances,
    edits,
    frames_ahead,
    mean_over_classes,
)


@pytest.mark.parametrize(
    ("said", "truth", "plain", "swapped"),
    [
        ([1, 2, 3], [1, 2, 3], 0, 0),
        ([1, 2, 3], [1, 9, 3], 1, 1),  # another
        ([1, 3], [1, 2, 3], 1, 1),  # one more
        ([2, 1, 3], [1, 2, 3], 2, 1),  # two changed places
        ([1, 2, 3], [3, 1, 2], 2, 2),  # one moved: taken out and put in
        ([3, 1], [1, 2, 3], 3, 3),  # ca and abc, which no part edited twice makes 3 and not 2
        ([], [1, 2], 2, 2),
        ([5, 6], [], 2, 2),
        ([1, 1, 2], [2, 1, 1], 2, 2),
        ([4, 5, 6, 7], [5, 4, 7, 6], 3, 2),
    ],
)
def test_edits(said: list[int], truth: list[int], plain: int, swapped: int) -> None:
    assert edits(said, truth) == edits(truth, said) == plain
    assert edits(said, truth, transpositions=True) == swapped
    assert edits(truth, said, transpositions=True) == swapped


def test_edits_are_a_distance() -> None:
    every = [list(s) for n in range(4) for s in itertools.product(range(2), repeat=n)]
    for a, b, c in itertools.product(every, repeat=3):
        assert edits(a, c) <= edits(a, b) + edits(b, c)
    for a, b in itertools.product(every, repeat=2):
        assert (edits(a, b) == 0) == (a == b)
        assert abs(len(a) - len(b)) <= edits(a, b) <= max(len(a), len(b))
        assert edits(a, b, transpositions=True) <= edits(a, b)


def test_the_best_of_k_sequences_counts() -> None:
    truth = [[1, 2, 3, 4], [5, 5, 5, 5]]
    said = [
        [[1, 2, 3, 9], [9, 9, 9, 9]],  # 1 edit of 4, and 4
        [[9, 9, 9, 9], [6, 6, 5, 5]],  # 4, and 2
    ]
    np.testing.assert_array_equal(edit_distances(said, truth), [0.25, 0.5])
    assert edit_distance(said, truth) == 0.375
    first = np.array(said)[:, :1]
    assert edit_distance(first, truth) == (0.25 + 1.0) / 2
    swapped = [[[2, 1, 3, 4]]]
    assert edit_distance(swapped, truth[:1]) == 0.5
    assert edit_distance(swapped, truth[:1], transpositions=True) == 0.25
    twenty = np.arange(20)[None]
    shifted = np.roll(twenty, 1, axis=1)[:, None].repeat(5, axis=1)
    assert edit_distance(shifted, twenty) == 2 / 20  # one is taken out, one put in


def test_frames_are_a_share_of_the_whole_video() -> None:
    assert frames_ahead(10, 0.2, 0.1) == slice(2, 3)
    assert frames_ahead(10, 0.3, 0.5) == slice(3, 8)
    assert frames_ahead(100, 0.3, 0.3) == slice(30, 60)
    assert frames_ahead(7, 0.2, 0.5) == slice(1, 4)  # 1.4 and 4.9
    for observed, ahead in itertools.product((0.2, 0.3), (0.1, 0.2, 0.3, 0.5)):
        found = frames_ahead(10_000, observed, ahead)  # 0.1 + 0.2 is more than 0.3 in floats
        assert (found.start, found.stop) == (10_000 * observed, round(10_000 * (observed + ahead)))


def test_the_mean_is_over_classes_and_all_videos() -> None:
    one = ([1, 1, 2, 2], [1, 1, 1, 2])  # class 1: 2 of 3, class 2: 1 of 1
    two = ([2, 3, 3, 9], [2, 2, 3, -1])  # class 2: 1 of 2, class 3: 1 of 1
    assert mean_over_classes([one]) == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert mean_over_classes([one, two]) == pytest.approx(100 * (2 / 3 + 2 / 3 + 1) / 3)
    assert mean_over_classes([([-1, 1], [1, 1])]) == 50.0  # nothing said is wrong
    assert mean_over_classes(iter([one])) == mean_over_classes([one])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: edit_distance([[1, 2]], [[1, 2]]), r"expected \(N, K, Z\) and \(N, Z\)"),
        (lambda: edit_distance([[[1, 2]]], [[1, 2, 3]]), r"\(1, 1, 2\) and \(1, 3\)"),
        (lambda: edit_distance(np.zeros((0, 5, 20)), np.zeros((0, 20))), "no sequence to score"),
        (lambda: edit_distance(np.zeros((2, 0, 20)), np.zeros((2, 20))), "no sequence to score"),
        (lambda: frames_ahead(10, 0.0, 0.5), "observed"),
        (lambda: frames_ahead(10, 0.6, 0.5), r"observed \+ ahead"),
        (lambda: mean_over_classes([]), "no frame has an action"),
        (lambda: mean_over_classes([([1], [-1])]), "no frame has an action"),
        (lambda: mean_over_classes([([1, 2], [1])]), r"\(2,\) and \(1,\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        call()
