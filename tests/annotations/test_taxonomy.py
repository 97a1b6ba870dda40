from __future__ import annotations

from dataclasses import replace

import pytest

from antcache.annotations import Taxonomy
from antcache.errors import BadAnnotations

CLASSES = Taxonomy(
    dataset="mine",
    verbs=("take", "put"),
    nouns=("pan", "cup"),
    actions=("take pan", "put pan", "take cup"),
    action_verbs=(0, 1, 0),
    action_nouns=(0, 0, 1),
)


def test_the_fingerprint_follows_the_classes_but_not_the_lists():
    listed = replace(CLASSES, many_shot_actions=(0,), many_shot_verbs=(0,), many_shot_nouns=(1,))
    assert listed.fingerprint == CLASSES.fingerprint
    assert replace(CLASSES, verbs=("take", "lay")).fingerprint != CLASSES.fingerprint
    assert replace(CLASSES, action_nouns=(0, 0, 0)).fingerprint != CLASSES.fingerprint
    assert replace(CLASSES, dataset="yours").fingerprint != CLASSES.fingerprint


def test_verb_or_noun_many_shot():
    listed = replace(CLASSES, many_shot_verbs=(1,), many_shot_nouns=(1,))
    assert listed.any_shot_actions == (1, 2)
    assert CLASSES.any_shot_actions is None


def test_it_survives_json():
    listed = replace(CLASSES, many_shot_actions=(0,))
    assert Taxonomy.from_dict(listed.to_dict()) == listed


@pytest.mark.parametrize(
    "wrong",
    [{"action_verbs": (0, 1)}, {"action_nouns": (0, 0, 2)}, {"many_shot_actions": (3,)}],
)
def test_classes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(BadAnnotations, match="taxonomy of mine"):
        replace(CLASSES, **wrong)


def test_an_action_is_rare_if_its_verb_or_noun_is():
    assert CLASSES.tail_actions is None
    listed = replace(CLASSES, tail_verbs=(), tail_nouns=(1,))
    expected = tuple(i for i, noun in enumerate(CLASSES.action_nouns) if noun == 1)
    assert listed.tail_actions == expected
    assert listed.fingerprint == CLASSES.fingerprint
    assert Taxonomy.from_dict(listed.to_dict()) == listed
    with pytest.raises(BadAnnotations, match="unknown tail verb id"):
        replace(CLASSES, tail_verbs=(99,))
