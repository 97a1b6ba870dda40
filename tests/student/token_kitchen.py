"""Token streams beside the vectors of the tiny kitchen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_kitchen import DIM, FPS

from antcache.annotations.protocols import reference_times
from antcache.store import Store

GRID = (2, 1, 3)
PRESENT, PLANE = 6, 3
FUTURE = (0.5, 1.0, 4.0)


def tokens_from(rows: NDArray[Any], count: int, seed: int) -> NDArray[np.float32]:
    """Tokens (R, count, D) that each show what the rows (R, D) do, and noise of their own."""
    noise = np.random.default_rng(seed).standard_normal((len(rows), count, rows.shape[1]))
    return (rows[:, None].astype(np.float32) + 0.3 * noise).astype(np.float32)


def add_tokens(
    store: Store,
    name: str = "tokens",
    *,
    dtype: str = "float16",
    grid: tuple[int, int, int] = GRID,
    future: Sequence[float] = (),
    compressed: bool = False,
) -> None:
    """A stream of tokens at the times of `rgb`."""
    stream = store.create_stream(
        name,
        dim=DIM,
        dtype=dtype,
        fps=FPS,
        source="made up",
        config={},
        grid=grid,
        future=future,
        compressed=compressed,
    )
    for seed, video in enumerate(store.videos("rgb")):
        rows = tokens_from(store.features("rgb", video).read(), stream.num_tokens, seed)
        store.write_features(name, video, rows if dtype == "int8" else rows.astype(dtype))


def add_tokens_at(
    store: Store,
    name: str = "kept",
    *,
    gaps: Sequence[float],
    anchors: Sequence[float] = (0.0,),
    frames: bool = False,
    splits: Sequence[str] = ("train", "validation"),
    **stream: Any,
) -> None:
    """A stream of tokens where windows of these gaps and anchors end, and nowhere else.

    With `frames`, at the last annotated frame before each end.
    """
    at: Mapping[str, Sequence[float]] = {"anchors": anchors, "gaps": gaps}
    made = store.create_stream(
        name, dim=DIM, fps=8.0, source="made up", config={}, grid=GRID, at=at, **stream
    )
    for split in splits:
        labels = store.labels(split)
        for seed, video in enumerate(labels.videos):
            own = labels[labels.video == video]
            times = np.concatenate(
                [
                    reference_times(own.start_s, own.stop_s, anchor) - gap
                    for anchor in anchors
                    for gap in gaps
                ]
            )
            if frames:
                times = np.floor(times * 30 + 1e-6) / 30
            times = np.unique(times[times >= 0].round(9))
            shown = store.features("rgb", video)
            rows = shown.read(np.minimum(shown.rows_at(times), shown.num_rows - 1))
            tokens = tokens_from(rows, made.num_tokens, seed)
            kept = tokens if made.dtype == "int8" else tokens.astype(made.dtype)
            store.write_features(name, video, kept, times=times)
