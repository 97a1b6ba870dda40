"""Heads: by hand, each part by itself, and the loss against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from antcache.teacher.heads import ActionHeads, recent_nouns
from antcache.teacher.histories import HistoryConfig
from antcache.teacher.trained import TrainedSettings


def test_recent_nouns_by_hand_and_one_by_one(taxonomy, timeline):
    labelled = timeline.examples(HistoryConfig(), 6)
    nouns = torch.tensor([[3, 1, 0, 1], [3, 3, 3, 3]])  # 3: nothing
    verbs = torch.tensor([[4, 0, 2, 1], [4, 4, 4, 4]])
    rank, last = recent_nouns(nouns, verbs, 3, 4)
    assert rank.tolist() == [[1, 0, 4], [4, 4, 4]]
    assert last.tolist() == [[2, 1, 4], [4, 4, 4]]
    # The same as going back through each history, one action after the other.
    ranks, lasts = np.full((len(labelled), 3), 6), np.full((len(labelled), 3), 4)
    for i, history in enumerate(labelled.history):
        met = []
        for action in history[::-1][history[::-1] >= 0]:
            noun = taxonomy.noun_of[action]
            if noun not in met:
                ranks[i, noun], lasts[i, noun] = len(met), taxonomy.verb_of[action]
                met.append(noun)
    padded = torch.from_numpy(np.where(labelled.history < 0, 12, labelled.history))
    rank, last = recent_nouns(
        torch.tensor([*taxonomy.action_nouns, 3])[padded],
        torch.tensor([*taxonomy.action_verbs, 4])[padded],
        3,
        4,
    )
    np.testing.assert_array_equal(ranks, rank)
    np.testing.assert_array_equal(lasts, last)


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("factorized", [True, False])
def test_each_part_adds_what_it_says(taxonomy, factorized, memory):
    torch.manual_seed(0)
    heads = ActionHeads(taxonomy, 5, 3, factorized=factorized, memory=memory)
    for table in heads.tables():
        torch.nn.init.normal_(table)
    z, history = torch.randn(1, 5), torch.tensor([[-1, 4, 9]])
    action, verb, noun = heads(z, history)
    expected = heads.action_head(z)[0]
    verb_of, noun_of = list(taxonomy.action_verbs), list(taxonomy.action_nouns)
    for c in range(len(taxonomy.actions)):
        value = expected[c]
        if factorized:
            value = value + verb[0, verb_of[c]] + noun[0, noun_of[c]]
        if memory:
            place = {noun_of[4]: 1, noun_of[9]: 0}.get(noun_of[c], 3)
            last = {noun_of[4]: verb_of[4], noun_of[9]: verb_of[9]}.get(
                noun_of[c], len(taxonomy.verbs)
            )
            value = value + heads.recency[place] + heads.recency_head(z)[0, place]
            value = value + heads.verb_after[last, verb_of[c]] + heads.action_after[last, c]
        torch.testing.assert_close(action[0, c], value)
    assert bool(heads.tables()) is memory


def test_loss_is_the_weighted_sum_of_three(taxonomy):
    torch.manual_seed(0)
    heads = ActionHeads(taxonomy, 5, 3)
    outputs = heads(torch.randn(4, 5), torch.randint(-1, 12, (4, 3)))
    target = torch.tensor([0, 5, 11, 7])
    weight = torch.rand(len(taxonomy.actions))
    settings = TrainedSettings(verb_weight=0.2, noun_weight=0.1, label_smoothing=0.1)
    loss = heads.loss(outputs, target, settings, class_weight=weight)
    verbs = torch.tensor(taxonomy.action_verbs)[target]
    nouns = torch.tensor(taxonomy.action_nouns)[target]
    expected = (
        0.7 * F.cross_entropy(outputs[0], target, weight=weight, label_smoothing=0.1)
        + 0.2 * F.cross_entropy(outputs[1], verbs, label_smoothing=0.1)
        + 0.1 * F.cross_entropy(outputs[2], nouns, label_smoothing=0.1)
    )
    torch.testing.assert_close(loss, expected)
