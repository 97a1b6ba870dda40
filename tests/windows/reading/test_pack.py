from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from antcache.annotations import protocol_for
from antcache.errors import BadConfig
from antcache.store import Store
from antcache.store.reading.gather import Gatherer
from antcache.windows.dataset import Windows
from antcache.windows.index import WindowIndex, stream_features
from antcache.windows.reading.pack import PackedFeatures, fill, make_staging, require_memory
from antcache.windows.reading.stream_rows import StreamRows

CPU = torch.device("cpu")


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_holds_what_the_store_holds(make_store: Callable[..., Store], backend: str) -> None:
    store = make_store(backend=backend)
    segments = store.labels("train")
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, protocol_for("tiny"))
    seen: list[tuple[str, float, float]] = []
    pack = PackedFeatures.gather(
        [StreamRows.of(features, index)], CPU, progress=lambda *report: seen.append(report)
    )
    assert pack.shape == (len(index), 10, 12)
    held = pack.take(range(len(index)))
    assert held.dtype == torch.float16
    for n, (video, rows) in enumerate(zip(index.labels.video, index.rows, strict=True)):
        whole = store.features("rgb", str(video)).read()
        np.testing.assert_array_equal(held[n].numpy(), whole[rows])
    windows = Windows(index.labels, pack)
    assert windows.tensors.action.tolist() == index.labels.action.tolist()
    assert windows.targets is None
    assert windows.num_bytes > pack.num_bytes
    assert seen[-1] == ("windows", 6, 6)


def test_a_row_that_windows_share_is_kept_once(make_store: Callable[..., Store]) -> None:
    """Windows of 5 s that begin every 3 s, and padding, which repeats rows within a window."""
    store = make_store()
    segments = store.labels("train")
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, protocol_for("tiny"))
    asked = StreamRows.of(features, index)
    (stream,) = PackedFeatures.gather([asked], CPU).streams
    pairs = {(v, r) for v, own in zip(asked.video, asked.rows, strict=True) for r in own}
    assert len(pairs) < asked.rows.size
    assert stream.values.shape == (len(pairs), 12)
    assert stream.num_bytes == len(pairs) * 12 * 2 + asked.rows.size * 8
    assert asked.num_bytes == stream.values.nbytes


def test_the_order_of_windows_does_not_matter(make_store: Callable[..., Store]) -> None:
    store = make_store()
    segments = store.labels("train")
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, protocol_for("tiny"))
    mixed = np.random.default_rng(0).permutation(len(index))
    video, rows = index.labels.video, index.rows
    straight, other = (
        PackedFeatures.gather([StreamRows(features=features, video=v, rows=r)], CPU)
        for v, r in ((video, rows), (video[mixed], rows[mixed]))
    )
    assert torch.equal(straight.take(mixed.tolist()), other.take(range(len(index))))


def test_nothing_of_the_store_stays_mapped(make_store: Callable[..., Store]) -> None:
    store = make_store()
    segments = store.labels("train")
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, protocol_for("tiny"))
    mapped: list[int] = []
    maps = Path("/proc/self/maps")
    PackedFeatures.gather(
        [StreamRows.of(features, index)],
        CPU,
        progress=lambda *_: mapped.append(maps.read_text().count(f"{store.path}/")),
    )
    assert mapped == [0] * 6
    features["t1"].read()
    assert maps.read_text().count(f"{store.path}/") == 1


def test_rows_take_the_same_way_to_a_device(make_store: Callable[..., Store]) -> None:
    """Through buffers of 3 rows, as to a GPU."""
    features = make_store().features("rgb", "t1")
    rows = np.random.default_rng(0).permutation(features.num_rows)[:8]
    straight, staged = torch.zeros(2, 8, 12, dtype=torch.float16)
    gatherer = Gatherer([features])
    fill(straight, gatherer, 0, rows)
    staging = make_staging(staged, 3 * 12 * 2 + 5)
    assert staging.num_windows == 3
    fill(staged, gatherer, 0, rows, staging)
    assert torch.equal(staged, straight)
    np.testing.assert_array_equal(staged.numpy(), features.read(rows))


def test_too_large_for_the_device_says_how_much(
    make_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    segments = store.labels("train")
    features = stream_features(store, "rgb", segments)
    index = WindowIndex.build(features, segments, protocol_for("tiny"))
    asked, cuda = [StreamRows.of(features, index)] * 2, torch.device("cuda")
    needed = 2 * asked[0].num_bytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (needed, 2 * needed))
    require_memory(asked, cuda)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (needed - 1, 2 * needed))
    expected = f"at most {needed - 1} bytes free, found {needed} bytes needed"
    with pytest.raises(BadConfig, match=expected):
        require_memory(asked, cuda)
