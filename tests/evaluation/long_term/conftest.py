"""Twelve actions, and segments of them."""

from __future__ import annotations

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy


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
    """Segments of one video from starts and actions; each lasts 1 s unless stops are given."""

    def make(video, starts, actions, stops=None):
        action, start = np.asarray(actions), np.asarray(starts, dtype=float)
        return Segments.of(
            uid=[f"{video}-{i}" for i in range(len(start))],
            video=[video] * len(start),
            start_s=start,
            stop_s=start + 1 if stops is None else stops,
            verb=taxonomy.verb_of[action],
            noun=taxonomy.noun_of[action],
            action=action,
        )

    return make


@pytest.fixture
def join():
    """Segments of several videos as one."""

    def together(parts):
        names = parts[0].arrays()
        return Segments.of(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})

    return together
