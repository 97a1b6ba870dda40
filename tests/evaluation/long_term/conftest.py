"""Twelve actions, and segments of them."""

from __future__ import annotations

from functools import partial

import pytest
from scripted import joined, segments_of

from antcache.annotations import Taxonomy


@pytest.fixture
def taxonomy():
    """Action a is noun a % 3 under verb a // 3."""
    return Taxonomy(
        dataset="twelve",
        verbs=("take", "put", "wash", "cut"),
        nouns=("cup", "knife", "pan"),
        actions=tuple(f"action {a}" for a in range(12)),
        action_verbs=tuple(a // 3 for a in range(12)),
        action_nouns=tuple(a % 3 for a in range(12)),
    )


@pytest.fixture
def make_segments(taxonomy):
    """See `segments_of`."""
    return partial(segments_of, taxonomy)


@pytest.fixture
def join():
    """See `joined`."""
    return joined
