"""Labels made by hand: bound to their texts by a hash, counted pair by pair."""

from __future__ import annotations

import json

import pytest
from labeled import Labeled, agreement, read_labeled, text_hash

from antcache.errors import BadAnnotations, NotFound
from antcache.teacher.corpus.parsed import ParsedAction

ENTRY = {
    "recipe": "b",
    "instruction": 0,
    "sha256": text_hash("Wash two plates."),
    "actions": [["wash", "plate"]],
}


@pytest.fixture
def layer1(tmp_path):
    """A recipe in Recipe1M's form."""
    steps = [{"text": "Wash two plates."}, {"text": "Serve."}]
    path = tmp_path / "layer1.json"
    path.write_text(json.dumps([{"id": "b", "partition": "val", "instructions": steps}]))
    return path


def write(tmp_path, *entries):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"instructions": entries}))
    return path


def test_labels_come_with_their_text(tmp_path, layer1):
    (label,) = read_labeled(write(tmp_path, ENTRY), layer1)
    assert label == Labeled(text="Wash two plates.", actions=(ParsedAction("wash", "plate"),))


def test_labels_of_another_text(tmp_path, layer1):
    with pytest.raises(BadAnnotations, match="recipe b, instruction 0: the label is for another"):
        read_labeled(write(tmp_path, {**ENTRY, "sha256": text_hash("Wash 2 plates.")}), layer1)
    with pytest.raises(BadAnnotations, match="no such instruction"):
        read_labeled(write(tmp_path, {**ENTRY, "instruction": 9}), layer1)
    with pytest.raises(BadAnnotations, match="can't be read"):
        read_labeled(write(tmp_path, {"recipe": "b"}), layer1)
    with pytest.raises(NotFound, match=r"none\.json"):
        read_labeled(tmp_path / "none.json", layer1)


def test_each_found_action_counts_once():
    labeled = [
        Labeled(text="", actions=(ParsedAction("add", "salt"), ParsedAction("cook", None))),
        Labeled(text="", actions=(ParsedAction("cut", "onion"),)),
    ]
    found = [
        [ParsedAction("add", "salt"), ParsedAction("add", "salt")],
        [ParsedAction("cut", "leek")],
    ]
    pairs = agreement(found, labeled)
    assert (pairs.both, pairs.found, pairs.labeled) == (1, 3, 2)
    assert (pairs.precision, pairs.recall, pairs.f1) == (1 / 3, 1 / 2, 2 / 5)
    verbs = agreement(found, labeled, verbs_only=True)
    assert (verbs.both, verbs.found, verbs.labeled) == (2, 3, 3)
    nothing = agreement([[], []], labeled)
    assert (nothing.precision, nothing.recall, nothing.f1) == (0.0, 0.0, 0.0)
