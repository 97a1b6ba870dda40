"""A kitchen of twelve actions, and videos made of scripts in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

from antcache.annotations import Segments, Taxonomy
from antcache.teacher.histories import Timeline

VERBS = ("take", "put", "open", "close")
NOUNS = ("pan", "cup", "tap")

MakeSegments = Callable[..., Segments]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One core: sums in another order differ in the last bit, and these are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def taxonomy() -> Taxonomy:
    """Every verb with every noun: action 3 * verb + noun."""
    pairs = [(v, n) for v in range(len(VERBS)) for n in range(len(NOUNS))]
    return Taxonomy(
        dataset="kitchen",
        verbs=VERBS,
        nouns=NOUNS,
        actions=tuple(f"{VERBS[v]}_{NOUNS[n]}" for v, n in pairs),
        action_verbs=tuple(v for v, _ in pairs),
        action_nouns=tuple(n for _, n in pairs),
        many_shot_actions=(0, 1, 2, 3, 4, 5),
        many_shot_verbs=(0, 1),
        many_shot_nouns=(0, 1),
    )


@pytest.fixture(scope="session")
def make_segments(taxonomy: Taxonomy) -> MakeSegments:
    """Segments of one video from starts and actions; each lasts 1 s unless stops are given."""

    def make(
        video: str,
        starts: Sequence[float],
        actions: Sequence[int] | None = None,
        stops: Sequence[float] | None = None,
        prefix: str = "",
    ) -> Segments:
        action = np.zeros(len(starts), int) if actions is None else np.asarray(actions)
        start = np.asarray(starts, dtype=float)
        return Segments.of(
            uid=[f"{prefix}{video}-{i}" for i in range(len(start))],
            video=[video] * len(start),
            start_s=start,
            stop_s=start + 1 if stops is None else stops,
            verb=taxonomy.verb_of[action],
            noun=taxonomy.noun_of[action],
            action=action,
        )

    return make


@pytest.fixture(scope="session")
def join() -> Callable[[Sequence[Segments]], Segments]:
    """Segments of several videos as one."""

    def together(parts: Sequence[Segments]) -> Segments:
        columns = {
            name: np.concatenate([p.arrays()[name] for p in parts]) for name in parts[0].arrays()
        }
        return Segments.of(**columns)

    return together


@pytest.fixture(scope="session")
def splits(
    make_segments: MakeSegments, join: Callable[[Sequence[Segments]], Segments]
) -> dict[str, Segments]:
    """Eight training and three validation videos in which what is taken is put, and so on."""
    rng = np.random.default_rng(0)

    def video(name: str) -> Segments:
        actions: list[int] = []
        for _ in range(6):
            noun, opens = int(rng.integers(3)), int(rng.integers(2))
            actions += [6 * opens + noun, 6 * opens + 3 + noun]  # take, put or open, close
        return make_segments(name, np.arange(len(actions)) * 2.0, actions)

    return {
        "train": join([video(f"t{i}") for i in range(8)]),
        "validation": join([video(f"v{i}") for i in range(3)]),
    }


@pytest.fixture(scope="session")
def timeline(splits: dict[str, Segments], taxonomy: Taxonomy) -> Timeline:
    """All of these in one table."""
    return Timeline.of(splits, taxonomy)
