"""Windows over imported LMDBs, against what AVT would read for the same frames."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from antcache.annotations import Protocol, Segments
from antcache.errors import MissingFeature
from antcache.interop.lmdb.importing import LmdbImportConfig, import_lmdb, plan_lmdb
from antcache.store import Store
from antcache.windows.index import (
    BEFORE_FEATURES,
    GAP_IN_FEATURES,
    SHORT_FEATURES,
    TOO_EARLY,
    WindowIndex,
    stream_features,
)

lmdb = pytest.importorskip("lmdb")

EK55 = Protocol(gap_s=1.0, num_frames=10, rate=2.0)
LENGTH = 1200
DENSE = np.arange(1, LENGTH + 1)


def imported(folder: Path, videos: dict[str, Iterable[int]], fill: str | None = None) -> Store:
    """A store with the stream `rgb`; the value of each row is the number of its frame."""
    with lmdb.open(str(folder / "rgb"), map_size=1 << 26) as env, env.begin(write=True) as txn:
        for video, frames in videos.items():
            for n in frames:
                txn.put(f"{video}_frame_{n:010d}.jpg".encode(), np.float32(n).tobytes())
    store = Store.create(folder / "s.zarr")
    import_lmdb(plan_lmdb({"rgb": folder / "rgb"}, None, LmdbImportConfig(fill=fill)), store)
    return store


def random_segments(videos: Iterable[str], seed: int, count: int = 150) -> Segments:
    """Segments that begin at hundredths of a second, up to a second past the last frame's time."""
    rng = np.random.default_rng(seed)
    starts = {v: np.sort(rng.integers(0, LENGTH / 30 * 100 + 200, count)) / 100 for v in videos}
    rows = [(f"{v}_{i}", v, s) for v, each in starts.items() for i, s in enumerate(each.tolist())]
    uid, video, start_s = zip(*rows, strict=True)
    zero = [0] * len(rows)
    return Segments.of(
        uid=uid,
        video=video,
        start_s=start_s,
        stop_s=[s + 1 for s in start_s],
        verb=zero,
        noun=zero,
        action=zero,
    )


def frames_of(start_s: float) -> list[int]:
    """Frames of a window, by AVT's rule: ten, 15 apart, the last one second before the start."""
    last = math.floor(round((start_s - 1) * 100) * 30 / 100 + 1e-9)  # starts are hundredths
    frames = [last - 15 * back for back in range(9, -1, -1)]
    smallest = min((f for f in frames if f >= 1), default=0)
    return [max(f, smallest) for f in frames]


def avt_lookup(keys: set[int], frame: int) -> int | None:
    """The key that AVT reads for a frame: it, or up to nine before; None: AVT takes zeros."""
    return next((f for f in range(frame, frame - 10, -1) if f in keys), None)


def seen(store: Store, index: WindowIndex) -> list[list[int]]:
    """Frame numbers that each window of `index` reads."""
    return [
        store.features("rgb", str(video)).read(rows)[:, 0].astype(int).tolist()
        for video, rows in zip(index.labels.video, index.rows, strict=True)
    ]


def test_a_dense_lmdb_gives_the_key_of_each_frame(tmp_path: Path) -> None:
    store = imported(tmp_path, {"a": DENSE, "b": DENSE})
    segments = random_segments("ab", seed=0)
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, EK55, allow_missing=True)
    start_s = dict(zip(segments.uid.tolist(), segments.start_s.tolist(), strict=True))
    assert set(index.dropped) == {TOO_EARLY, SHORT_FEATURES}
    for uid in index.dropped[SHORT_FEATURES]:
        assert frames_of(start_s[uid])[-1] > LENGTH
    assert len(index) > 250
    assert seen(store, index) == [frames_of(start_s[u]) for u in index.labels.uid.tolist()]


@pytest.mark.parametrize("pattern", ["25 of 30", "10 of 30", "4 fps"])
def test_a_sparse_lmdb_gives_the_last_key_before(tmp_path: Path, pattern: str) -> None:
    keys = {
        "25 of 30": DENSE[(DENSE - 1) % 6 != 5],
        "10 of 30": DENSE[::3],
        "4 fps": np.floor(np.arange(160) * 7.5).astype(int) + 1,
    }[pattern]
    store = imported(tmp_path, {"v": keys})
    segments = random_segments("v", seed=1)
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, EK55, allow_missing=True)
    assert set(index.dropped) == {TOO_EARLY, SHORT_FEATURES}
    assert len(index) > 130
    for start_s, rows in zip(segments.start_s[index.segment], seen(store, index), strict=True):
        assert rows == [max(k for k in keys.tolist() if k <= f) for f in frames_of(start_s)]


def sparse(rng: np.random.Generator) -> list[int]:
    """A random pattern: some keys dropped here and there, and some stretches of up to 30."""
    kept = rng.random(LENGTH) < rng.choice([0.4, 0.8, 0.99])
    for first in rng.integers(0, LENGTH, rng.integers(0, 25)):
        kept[first : first + rng.integers(1, 31)] = False
    kept[: rng.choice([0, 5, 100])] = False
    kept[LENGTH - rng.choice([0, 5, 100]) :] = False
    return (np.flatnonzero(kept) + 1).tolist()


@pytest.mark.parametrize("seed", range(8))
def test_fill_reads_what_avt_reads_and_refuses_what_it_makes_up(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = {v: sparse(rng) for v in "abc"}
    store = imported(tmp_path, keys, fill="previous:0.3s")
    segments = random_segments("abc", seed)
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, EK55, allow_missing=True)
    ours = dict(zip(index.labels.uid.tolist(), seen(store, index), strict=True))
    padded = dict(zip(index.labels.uid.tolist(), index.padded.tolist(), strict=True))
    refused = {u for why in (GAP_IN_FEATURES, SHORT_FEATURES) for u in index.dropped.get(why, ())}
    unseen = {*index.dropped.get(BEFORE_FEATURES, ()), *index.dropped[TOO_EARLY]}
    made_up = 0
    rows = zip(
        segments.uid.tolist(), segments.video.tolist(), segments.start_s.tolist(), strict=True
    )
    for uid, video, start_s in rows:
        frames = frames_of(start_s)
        present = set(keys[video])
        avt = [avt_lookup(present, f) for f in frames]
        if uid in ours:
            for f, theirs, row, pad in zip(frames, avt, ours[uid], padded[uid], strict=True):
                assert row == theirs or (theirs is None and pad and f < min(present))
        elif uid in refused:
            made_up += 1
            assert any(a is None for f, a in zip(frames, avt, strict=True) if f >= min(present))
        else:
            assert uid in unseen
            assert avt == [None] * 10
    assert made_up > 0
    assert len(ours) > 20
    with pytest.raises(MissingFeature, match=rf"^rgb: {made_up} of {len(segments)} segments"):
        WindowIndex.build(features, segments, EK55, where="rgb")


def test_without_fill_a_single_missing_key_is_an_error(tmp_path: Path) -> None:
    store = imported(tmp_path, {"v": DENSE[DENSE != 600]})
    starts = [(f + 30) / 30 for f in (599, 600, 601)]
    segments = random_segments("v", 0, count=3)
    segments = Segments.of(
        **{**segments.arrays(), "start_s": starts, "stop_s": [s + 1 for s in starts]}
    )
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, EK55, allow_missing=True)
    assert index.dropped == {GAP_IN_FEATURES: ("v_1",)}
    with pytest.raises(MissingFeature, match=r"gap_in_features 1.*--fill of antcache import lmdb"):
        WindowIndex.build(features, segments, EK55)
    store.set_gap_rule("rgb", step_s=1 / 30, max_age_s=1 / 30)
    index = WindowIndex.build(stream_features(store, "rgb", segments), segments, EK55)
    assert [row[-1] for row in seen(store, index)] == [599, 599, 601]
