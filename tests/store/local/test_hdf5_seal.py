"""Where values lie in a file, as the block before them says it: briefly, and all of it."""

from __future__ import annotations

import random

from antcache.store.local.hdf5_seal import merged


def test_neighbours_are_joined_wherever_they_lie() -> None:
    """A video of many chunks has one range for each run of them, in whatever order they came."""
    places = [(20, 5), (10, 1), (2, 3), (0, 2), (12, 1), (11, 1), (30, 2), (32, 8)]
    for seed in range(5):
        random.Random(seed).shuffle(places)
        assert merged(places) == ((0, 5), (10, 3), (20, 5), (30, 10))
    assert merged([]) == ()
