"""Metrics on cases worked by hand, and against slower definitions."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from antcache.annotations import read_annotations
from antcache.errors import BadConfig
from antcache.evaluation.metrics import (
    NEVER,
    Metric,
    class_mean_recall,
    mean_and_error,
    ranks_by_action,
    score,
    top_k_accuracy,
    true_class_ranks,
    verb_noun_marginals,
)

INF = math.inf


def test_rank_counts_what_is_better_and_breaks_ties_by_id():
    scores = np.array([[3.0, 1, 2], [3, 1, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [0, 5, 5]])
    assert true_class_ranks(scores, np.array([0, 1, 0, 1, 2, 2])).tolist() == [0, 2, 0, 1, 2, 1]


def test_a_class_that_is_not_ranked_is_never_among_the_best():
    scores = np.array([[-INF, 1.0, -INF], [-INF, 1.0, -INF]])
    assert true_class_ranks(scores, np.array([0, 1])).tolist() == [NEVER, 0]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    scores=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.sampled_from([-2.0, 0.0, 0.5, 1.0, 7.0]),
    )
)
def test_ranks_are_places_in_a_stable_sort(scores):
    for label in range(scores.shape[1]):
        order = np.argsort(-scores, axis=1, kind="stable")
        places = np.argmax(order == label, axis=1)
        labels = np.full(len(scores), label)
        assert true_class_ranks(scores, labels).tolist() == places.tolist()


def test_ranks_do_not_depend_on_chunks():
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((3000, 5)), rng.integers(0, 5, 3000)
    halves = [
        true_class_ranks(scores[i : i + 700], labels[i : i + 700]) for i in range(0, 3000, 700)
    ]
    assert true_class_ranks(scores, labels).tolist() == np.concatenate(halves).tolist()


def test_top_k_accuracy():
    ranks = np.array([0, 4, 5, 1])
    assert [top_k_accuracy(ranks, k) for k in (1, 2, 5, 6)] == [25, 50, 75, 100]


def test_class_mean_recall_by_hand():
    # Class 0: ranks 0 and 5 (half within 5); class 2: rank 9 (none); class 7: rank 1 (all).
    ranks, labels = np.array([0, 9, 5, 1]), np.array([0, 2, 0, 7])
    assert class_mean_recall(ranks, labels, 5) == pytest.approx(100 * (0.5 + 0 + 1) / 3)
    assert class_mean_recall(ranks, labels, 5, [0, 1, 7]) == pytest.approx(75)  # 1 is absent
    assert class_mean_recall(ranks, labels, 1) == pytest.approx(100 * 0.5 / 3)
    over_ten = Metric(kind="action", k=1, class_mean=True, over=10)
    assert over_ten.value(ranks, labels) == pytest.approx(100 * 0.5 / 10)


def test_nothing_to_average_over_is_an_error():
    with pytest.raises(BadConfig, match="none of the classes"):
        class_mean_recall(np.array([0]), np.array([3]), 5, [1, 2])
    with pytest.raises(BadConfig, match="no segment"):
        top_k_accuracy(np.array([], dtype=np.int64), 1)


def test_verb_and_noun_scores_are_sums_of_probabilities(taxonomy):
    p = np.array([[0.1, 0.2, 0.3, 0.15, 0.25]])
    verbs, nouns = verb_noun_marginals(np.log(p) + 7, taxonomy)
    np.testing.assert_allclose(verbs, [[0.55, 0.45, 0]])
    np.testing.assert_allclose(nouns, [[0.4, 0.2, 0.4, 0]])


def test_verb_scores_of_unranked_actions_are_zero(taxonomy):
    scores = np.array([[0.0, -INF, -INF, -INF, 0.0]], dtype=np.float32)
    verbs, nouns = verb_noun_marginals(scores, taxonomy)
    assert verbs.tolist() == [[1, 0, 0]]
    assert nouns.tolist() == [[0.5, 0, 0.5, 0]]


def one_hot(classes, c=5):
    return 10 * np.eye(c, dtype=np.float32)[classes]


def test_score_by_hand(taxonomy, segments):
    figures = score(one_hot([0, 1, 2, 4]), segments, taxonomy)  # true: 0 0 2 3
    assert figures["n"] == 4
    assert figures["action/top1"] == 50
    assert figures["action/top5"] == 100  # of five classes
    assert figures["action/class_mean_top1"] == pytest.approx(100 * (0.5 + 1 + 0) / 3)
    assert figures["action/class_mean_top1_all_classes"] == pytest.approx(100 * 1.5 / 5)
    assert figures["verb/top1"] == 75  # take take put take
    assert figures["verb/class_mean_top1"] == 75
    assert figures["verb/class_mean_top1_all_classes"] == pytest.approx(50)
    assert figures["noun/top1"] == 75  # cup knife cup pan
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_many_shot_is_and_any_shot_is_or(taxonomy, segments):
    scores = one_hot([0, 1, 1, 4])
    # Not ranked at all: the truth of segments b and d.
    scores[1, 0] = scores[3, 3] = -INF
    figures = score(scores, segments, taxonomy)
    assert figures["action/many_shot_recall@5"] == 50  # class 0 alone
    assert figures["action/any_shot_recall@5"] == 75  # 0 (half) and 2 (by its noun), not 3
    assert figures["action/recall@5"] == pytest.approx(50)


def test_lists_that_are_absent_have_no_key(taxonomy, segments):
    plain = replace(taxonomy, many_shot_actions=None, many_shot_verbs=None, many_shot_nouns=None)
    assert not [k for k in score(one_hot([0, 0, 2, 3]), segments, plain) if "shot" in k]
    elsewhere = replace(taxonomy, many_shot_actions=(4,))
    figures = score(one_hot([0, 0, 2, 3]), segments, elsewhere)
    assert "action/many_shot_recall@5" not in figures


def test_segments_without_a_prediction_are_wrong_everywhere(taxonomy, segments):
    figures = score(one_hot([0, 0, 2]), segments, taxonomy, rows=np.arange(3))
    assert figures["n"] == 4
    assert figures["action/top5"] == figures["verb/top5"] == 75
    assert figures["action/recall@5"] == pytest.approx(100 * 2 / 3)
    assert figures["verb/recall@5"] == pytest.approx(75)


@pytest.mark.parametrize("value", [math.nan, INF])
def test_a_score_that_is_no_number_names_its_segment(taxonomy, segments, value):
    scores = one_hot([0, 0, 2, 3])
    scores[2, 1] = value
    with pytest.raises(BadConfig, match=r"segment c: .*not finite"):
        score(scores, segments, taxonomy)


def test_a_segment_without_any_score_is_named(taxonomy, segments):
    scores = one_hot([0, 0, 2, 3])
    scores[1] = -INF
    with pytest.raises(BadConfig, match="segment b"):
        score(scores, segments, taxonomy)


def test_wrong_shapes(taxonomy, segments):
    for scores in (one_hot([0, 0, 2]), np.zeros((4, 6)), np.zeros(4)):
        with pytest.raises(BadConfig, match=r"4 segments .*, 5 actions"):
            score(scores, segments, taxonomy)
    with pytest.raises(BadConfig, match="at least one"):
        score(np.zeros((0, 5)), segments[:0], taxonomy)
    with pytest.raises(BadConfig, match="do not fit"):
        true_class_ranks(np.zeros((2, 3)), np.zeros(3, dtype=int))


def test_mean_and_error():
    mean, deviation, error = mean_and_error([1.0, 2.0, 6.0])
    assert mean == pytest.approx(3)
    assert deviation == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert error == pytest.approx(deviation / math.sqrt(3))
    for impossible in ([1.0], [], [[1.0, 2.0], [3.0, 4.0]]):
        with pytest.raises(BadConfig, match="at least two"):
            mean_and_error(np.array(impossible))


def test_two_values_have_an_error():
    mean, deviation, error = mean_and_error([1.0, 4.0])
    assert mean == 2.5
    assert deviation == pytest.approx(3 / math.sqrt(2))
    assert error == pytest.approx(1.5)


def test_denominators_on_the_real_labels(data_dir):
    """A model that always ranks the same five actions first recalls five classes, all of them."""
    dataset = read_annotations("epic-kitchens-55", data_dir / "epic-kitchens-55")
    train, validation = dataset.splits["train"], dataset.splits["validation"]
    classes = len(dataset.taxonomy.actions)
    counts = np.bincount(train.action, minlength=classes)
    constant = np.broadcast_to(np.log(counts + 1e-3), (len(validation), classes))
    figures = score(constant, validation, dataset.taxonomy)
    assert figures["n"] == 4979
    assert figures["action/recall@5"] == pytest.approx(100 * 5 / 931)
    assert figures["action/many_shot_recall@5"] == pytest.approx(100 * 5 / 451)
    assert figures["action/any_shot_recall@5"] == pytest.approx(100 * 5 / 883)
    assert figures["action/class_mean_top1"] == pytest.approx(100 / 931)
    assert figures["action/class_mean_top1_all_classes"] == pytest.approx(100 / 2513)
    five = np.argsort(-counts, kind="stable")[:5]
    assert figures["action/top5"] == pytest.approx(100 * np.isin(validation.action, five).mean())


def test_own_verb_and_noun_scores_replace_the_marginals(taxonomy, segments):
    scores = np.random.default_rng(0).standard_normal((4, 5))
    verbs, nouns = np.zeros((4, 3)), np.zeros((4, 4))
    verbs[np.arange(4), segments.verb] = 1
    nouns[np.arange(4), (segments.noun + 1) % 4] = 1
    found = score(scores, segments, taxonomy, verb_noun_scores=(verbs, nouns))
    assert (found["verb/top1"], found["noun/top1"]) == (100, 0)
    assert found["action/top1"] == score(scores, segments, taxonomy)["action/top1"]
    with pytest.raises(BadConfig, match=r"4 segments \(at least one\), 3 verbs"):
        score(scores, segments, taxonomy, verb_noun_scores=(nouns, verbs))
    verbs[2, 0] = np.nan
    with pytest.raises(BadConfig, match="segment c"):
        score(scores, segments, taxonomy, verb_noun_scores=(verbs, nouns))


def test_verbs_and_nouns_by_the_best_actions(taxonomy, segments):
    """True verbs 0, 0, 1, 1; actions 0, 1 and 4 have verb 0, the others verb 1."""
    scores = np.array(
        [[3.0, 1, 0, 0, 0], [0, 2, 9, 1, 1], [0, 5, 1, 4, 6], [-INF, -INF, 1, -INF, 3]]
    )
    ids = taxonomy.verb_of
    order = [np.argsort(-row, kind="stable").tolist() for row in scores]
    wanted = [
        min(
            (rank for rank, a in enumerate(best) if ids[a] == verb and row[a] > -INF), default=NEVER
        )
        for best, row, verb in zip(order, scores, segments.verb, strict=True)
    ]
    assert ranks_by_action(scores, segments.verb, ids).tolist() == wanted
    figures = score(scores, segments, taxonomy)
    for k in (1, 5):
        share = 100 * np.mean(np.array(wanted) < k)
        assert figures[f"verb/top{k}_by_action"] == share
    own = np.zeros((4, 3)), np.zeros((4, 4))
    again = score(scores, segments, taxonomy, verb_noun_scores=own)
    assert again["noun/top5_by_action"] == figures["noun/top5_by_action"]


def test_a_verb_without_a_ranked_action_is_never_among_the_best(taxonomy):
    scores = np.array([[-INF, -INF, 1.0, 0.0, -INF]])
    unranked = int(next(v for v in taxonomy.verb_of if v not in taxonomy.verb_of[[2, 3]]))
    assert ranks_by_action(scores, np.array([unranked]), taxonomy.verb_of).tolist() == [NEVER]
