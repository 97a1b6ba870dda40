"""A small taxonomy, its segments and a store of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy
from antcache.store import Store

sys.path.insert(0, str(Path(__file__).parent))  # small_predictions


@pytest.fixture
def taxonomy() -> Taxonomy:
    """Five actions over three verbs and four nouns; verb 2 and noun 3 have no action."""
    return Taxonomy(
        dataset="small",
        verbs=("take", "put", "wash"),
        nouns=("cup", "knife", "pan", "tap"),
        actions=("take cup", "take knife", "put cup", "put pan", "take pan"),
        action_verbs=(0, 0, 1, 1, 0),
        action_nouns=(0, 1, 0, 2, 2),
        many_shot_actions=(0, 1),
        many_shot_verbs=(0,),
        many_shot_nouns=(0, 1),
    )


@pytest.fixture
def segments(taxonomy: Taxonomy) -> Segments:
    """Four segments: action 0 twice, then 2 and 3."""
    action = np.array([0, 0, 2, 3])
    return Segments.of(
        uid=["a", "b", "c", "d"],
        video=["v"] * 4,
        start_s=[1, 2, 3, 4],
        stop_s=[2, 3, 4, 5],
        verb=taxonomy.verb_of[action],
        noun=taxonomy.noun_of[action],
        action=action,
    )


@pytest.fixture
def store(tmp_path: Path, taxonomy: Taxonomy, segments: Segments) -> Store:
    """A store with these segments as `validation`, and the first two again as those of `train`."""
    made = Store.create(tmp_path / "store")
    made.write_labels("validation", segments, taxonomy, source="test")
    train = replace(segments[:2], uid=np.array(["t-a", "t-b"]))
    made.write_labels("train", train, taxonomy, source="test")
    return made
