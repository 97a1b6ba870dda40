"""Windows of rows of tokens: packed and lazy, stored in any way, with the futures they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from token_kitchen import FUTURE, PLANE, PRESENT, add_tokens, add_tokens_at
from torch.utils.data import DataLoader

import antcache
from antcache.annotations import Protocol, Segments, protocol_for
from antcache.errors import BadConfig, MissingFeature
from antcache.extract.rows.moments import window_times
from antcache.store import Features, Store
from antcache.windows.index import WindowIndex
from antcache.windows.reading.lazy import LazyFeatures
from antcache.windows.reading.pack import PackedFeatures
from antcache.windows.split import SplitWindows, split_windows

MakeStore = Callable[..., Store]
CPU = torch.device("cpu")
ONE = Protocol(gap_s=1.0, num_frames=1, rate=2.0)
DIM, TOKENS = 12, PRESENT


def found(
    store: Store,
    *streams: str,
    protocol: Protocol = ONE,
    drawn: tuple[Protocol, ...] = (),
    allow_missing: bool = False,
) -> SplitWindows:
    return split_windows(
        store,
        [store.stream(name) for name in streams or ("tokens",)],
        "train",
        store.labels("train"),
        protocol,
        drawn=drawn,
        allow_missing=allow_missing,
    )


def both(windows: SplitWindows) -> tuple[torch.Tensor, torch.Tensor]:
    """All features, packed and lazy, by batches in a mixed order; both by samples as well."""
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    whole = []
    for features in (
        PackedFeatures.gather(windows.streams, CPU),
        LazyFeatures.of(windows.streams, CPU),
    ):
        parts = [(at, values.clone()) for at, values in features.batches(order, 5)]
        assert torch.equal(torch.cat([at for at, _ in parts]), order)
        values = torch.cat([values for _, values in parts])[order.argsort()]
        assert features.shape == values.shape
        taken = features.take(range(len(windows)))
        assert torch.equal(taken, values)
        assert taken.dtype == values.dtype
        whole.append(values)
    return whole[0], whole[1]


def read_plainly(store: Store, windows: SplitWindows, stream: str = "tokens") -> np.ndarray:
    """The rows of each window, one by one, as the store's own reader gives them."""
    rows = windows.streams[0].rows
    pairs = zip(windows.labels.video.tolist(), rows, strict=True)
    return np.stack([store.features(stream, video).read(own) for video, own in pairs])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_packed_and_lazy_are_what_the_store_reads(
    make_store: MakeStore, dtype: str, backend: str, compressed: bool
) -> None:
    store = make_store(backend=backend, num_videos=2)
    add_tokens(store, dtype=dtype, compressed=compressed)
    protocol = replace(ONE, num_frames=3)
    for opened in (store, Store.open(store.path, memory_map=False)):
        windows = found(opened, protocol=protocol)
        packed, lazy = both(windows)
        assert packed.shape == (len(windows), 3, TOKENS, DIM)
        assert packed.dtype == (torch.float16 if dtype == "float16" else torch.float32)
        assert torch.equal(packed, lazy)
        np.testing.assert_array_equal(packed.numpy(), read_plainly(opened, windows))


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_pack_holds_distinct_rows_as_they_are_stored(make_store: MakeStore, dtype: str) -> None:
    store = make_store()
    add_tokens(store, dtype=dtype)
    windows = found(store, protocol=replace(ONE, num_frames=5))
    pack = PackedFeatures.gather(windows.streams, CPU)
    (stream,) = pack.streams
    (asked,) = windows.streams
    pairs = {(v, r) for v, own in zip(asked.video, asked.rows, strict=True) for r in own}
    assert stream.values.shape == (len(pairs), TOKENS, DIM)
    assert stream.values.dtype == getattr(torch, dtype)
    assert (stream.scale is None) == (dtype == "float16")
    bytes_each = {"float16": 2 * DIM, "int8": DIM + 2}[dtype] * TOKENS
    assert asked.num_bytes == windows.num_bytes == len(pairs) * bytes_each
    assert pack.num_bytes == asked.num_bytes + asked.rows.size * 8


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_window_reads_the_future_of_its_gap(make_store: MakeStore, dtype: str) -> None:
    """Of three futures of a row that of the window's own gap, whichever window shares the row."""
    store = make_store()
    add_tokens(store, dtype=dtype, future=FUTURE)
    drawn = tuple(replace(ONE, gap_s=gap) for gap in FUTURE)
    windows = found(store, drawn=drawn)
    packed, lazy = both(windows)
    assert packed.shape == (len(windows), 1, PRESENT + PLANE, DIM)
    assert torch.equal(packed, lazy)
    whole = read_plainly(store, windows)
    np.testing.assert_array_equal(packed[:, :, :PRESENT].numpy(), whole[:, :, :PRESENT])
    for column in range(3):
        own = windows.drawn[:, column]
        own = own[own >= 0]
        start = PRESENT + column * PLANE
        future = whole[own, :, start : start + PLANE]
        np.testing.assert_array_equal(packed[own, :, PRESENT:].numpy(), future)


def test_an_only_future_is_read_with_its_row(make_store: MakeStore) -> None:
    store = make_store()
    add_tokens(store, future=(1.0,))
    windows = found(store)
    packed, lazy = both(windows)
    assert packed.shape[2] == PRESENT + PLANE
    assert torch.equal(packed, lazy)
    np.testing.assert_array_equal(packed.numpy(), read_plainly(store, windows))


@pytest.mark.parametrize("future", [(0.5,), FUTURE])
def test_a_gap_without_a_future_is_refused(make_store: MakeStore, future: tuple[float]) -> None:
    store = make_store(num_videos=1)
    add_tokens(store, future=future)
    expected = "0.5" if len(future) == 1 else "0.5 or 1 or 4"
    said = rf"features/tokens: .*predicted for a gap of 2.5 s: expected a gap of {expected} s"
    with pytest.raises(BadConfig, match=said):
        found(store, protocol=replace(ONE, gap_s=2.5))


def test_a_row_of_one_token_is_one_vector(make_store: MakeStore) -> None:
    store = make_store()
    add_tokens(store, "one", grid=(1, 1, 1), dtype="int8")
    windows = found(store, "one", "rgb", protocol=protocol_for("tiny"))
    packed, lazy = both(windows)
    assert packed.shape == (len(windows), 10, 2 * DIM)
    assert torch.equal(packed, lazy)


def test_streams_of_as_many_tokens_lie_side_by_side(make_store: MakeStore) -> None:
    store = make_store()
    add_tokens(store, "one", dtype="int8")
    add_tokens(store, "two", grid=(1, 2, 3), dtype="float16")
    windows = found(store, "one", "two")
    packed, lazy = both(windows)
    assert packed.shape == (len(windows), 1, TOKENS, 2 * DIM)
    assert torch.equal(packed, lazy)
    for name, part in zip(("one", "two"), packed.split(DIM, dim=-1), strict=True):
        assert torch.equal(part, both(found(store, name))[0].float())


def test_streams_of_other_numbers_of_tokens_do_not(make_store: MakeStore) -> None:
    store = make_store(num_videos=1)
    add_tokens(store)
    said = r"different numbers of tokens.*found 6 in tokens, 1 in rgb .*--tokens"
    with pytest.raises(BadConfig, match=said):
        found(store, "tokens", "rgb")


@pytest.mark.parametrize("frames", [False, True])
def test_rows_where_windows_end(make_store: MakeStore, frames: bool) -> None:
    """Every window takes the row of its own time; the times of other segments are nobody's."""
    store = make_store()
    add_tokens_at(store, gaps=(0.51, 1.0), anchors=(0.0, 0.37), frames=frames, dtype="int8")
    for gap, anchor in ((0.51, 0.37), (1.0, 0.0)):
        protocol = replace(ONE, gap_s=gap, anchor=anchor)
        windows = found(store, "kept", protocol=protocol)
        times = protocol.reference_s(windows.segments.start_s, windows.segments.stop_s) - gap
        if frames:
            times = np.floor(times * 30 + 1e-6) / 30
        (asked,) = windows.streams
        for video, rows, time in zip(asked.video.tolist(), asked.rows, times, strict=True):
            assert store.features("kept", video).seconds[rows] == pytest.approx([time], abs=1e-8)
        assert not windows.num_padded
        packed, lazy = both(windows)
        assert torch.equal(packed, lazy)


def test_windows_that_end_elsewhere_are_refused(make_store: MakeStore) -> None:
    store = make_store()
    add_tokens_at(store, gaps=(0.25, 1.0), anchors=(0.0, 1.0), dtype="float16")
    said = r"a gap of 0.25 or 1 s, the anchor start or end, found a gap of 0.5 s, "
    with pytest.raises(BadConfig, match=said):
        found(store, "kept", protocol=replace(ONE, gap_s=0.5))
    with pytest.raises(BadConfig, match=r"found a gap of 1 s, the anchor 0.5 .*`gaps`, `anchors`"):
        found(store, "kept", protocol=replace(ONE, anchor=0.5), allow_missing=True)


def test_segments_that_rows_were_not_kept_for_are_missing(make_store: MakeStore) -> None:
    """Labels that are newer than the stream: their windows end at other times."""
    store = make_store()
    add_tokens_at(store, gaps=(1.0,), dtype="float16")
    labels = store.labels("train")
    moved = labels.start_s + np.where(labels.uid == "t1_3", 0.2, 0.0)
    later = type(labels).of(**{**labels.arrays(), "start_s": moved})
    streams = [store.stream("kept")]
    said = r"1 of 48 segments .*\(not_kept 1\).*t1 \(1\).*for other windows"
    with pytest.raises(MissingFeature, match=said):
        split_windows(store, streams, "train", later, ONE)
    windows = split_windows(store, streams, "train", later, ONE, allow_missing=True)
    assert windows.dropped["not_kept"] == ("t1_3",)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_loader_of_ones_own_takes_them(make_store: MakeStore, dtype: str) -> None:
    """`Store.windows` in two processes, futures chosen and int8 widened."""
    store = make_store(num_videos=2)
    add_tokens(store, dtype=dtype, future=FUTURE)
    opened = antcache.Store.open(store.path)
    windows = opened.windows("train", stream="tokens", protocol=ONE)
    loader = DataLoader(windows, batch_size=4, num_workers=2, multiprocessing_context="fork")
    batches = list(loader)
    features = torch.cat([batch.features for batch in batches])
    assert features.shape == (len(windows), 1, PRESENT + PLANE, DIM)
    assert torch.equal(features, both(found(store))[0])
    assert [uid for batch in batches for uid in batch.uid] == windows.labels.uid.tolist()
    packed = windows.pack()
    assert torch.equal(packed[3].features, windows[3].features)


@settings(deadline=None, max_examples=60)
@given(
    starts=st.lists(st.floats(0.0, 400.0), min_size=1, max_size=8),
    lengths=st.lists(st.floats(0.01, 30.0), min_size=8, max_size=8),
    gaps=st.lists(
        st.sampled_from([0.25, 0.75, 1.0, 1.25, 1.75, 0.1, 3.3]), min_size=1, unique=True
    ),
    anchors=st.lists(st.sampled_from([0.0, 0.3, 0.75, 1.0]), min_size=1, unique=True),
)
def test_what_is_extracted_at_windows_is_what_windows_ask_for(
    starts: list[float], lengths: list[float], gaps: list[float], anchors: list[float]
) -> None:
    """Every window that is not too early has the row of its own time, to float error."""
    stops = [start + length for start, length in zip(starts, lengths, strict=False)]
    zeros, uid = [0] * len(starts), [f"u{i}" for i in range(len(starts))]
    segments = Segments.of(
        uid=uid,
        video=["v"] * len(uid),
        start_s=starts,
        stop_s=stops,
        verb=zeros,
        noun=zeros,
        action=zeros,
    )
    times = window_times([segments], anchors=anchors, gaps=gaps)["v"]
    times = times[times >= 0]
    rows = np.broadcast_to(np.float16(0), (len(times), 1, 1))
    features = {"v": Features(rows=rows, fps=8.0, start_s=0.0, times=times, listed=True)}
    for gap, anchor in product(gaps, anchors):
        protocol = replace(ONE, gap_s=gap, anchor=anchor)
        index = WindowIndex.build(features, segments, protocol, allow_missing=True)
        assert set(index.dropped) <= {"too_early"}
        own = protocol.reference_s(segments.start_s, segments.stop_s)[index.segment] - gap
        np.testing.assert_allclose(times[index.rows[:, 0]], own, rtol=0, atol=1e-7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_gpu_gets_the_same_tokens(make_store: MakeStore, dtype: str) -> None:
    """To the bit, also those that are widened there."""
    store, cuda = make_store(), torch.device("cuda")
    add_tokens(store, dtype=dtype, future=FUTURE)
    windows = found(store, drawn=tuple(replace(ONE, gap_s=gap) for gap in FUTURE))
    packed, _ = both(windows)
    order = torch.arange(len(windows)).flip(0)
    for features in (
        PackedFeatures.gather(windows.streams, cuda),
        LazyFeatures.of(windows.streams, cuda),
    ):
        parts = [part.clone() for _, part in features.batches(order, 4)]
        assert torch.equal(torch.cat(parts).cpu(), packed[order])
        assert torch.equal(features.take([3, 0]).cpu(), packed[[3, 0]])
