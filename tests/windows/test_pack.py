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
from antcache.windows.pack import PackedFeatures, fill, make_staging, require_memory
from antcache.windows.split import StreamRows

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
    assert pack.values.dtype == torch.float16
    for n, (video, rows) in enumerate(zip(index.labels.video, index.rows, strict=True)):
        whole = store.features("rgb", str(video)).read()
        np.testing.assert_array_equal(pack.values[n].numpy(), whole[rows])
    windows = Windows(index.labels, pack)
    assert windows.tensors.action.tolist() == index.labels.action.tolist()
    assert windows.targets is None
    assert windows.num_bytes > pack.num_bytes == pack.values.nbytes
    assert seen[-1] == ("windows", 6, 6)


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


def test_windows_take_the_same_way_to_a_device(make_store: Callable[..., Store]) -> None:
    """Through buffers of 3 windows, as to a GPU."""
    features = make_store().features("rgb", "t1")
    rng = np.random.default_rng(0)
    rows = rng.integers(0, features.num_rows, (8, 10))
    at = np.array([0, 1, 4, 5, 7, 8, 9, 11])
    straight, staged = torch.zeros(2, 12, 10, 12, dtype=torch.float16)
    gatherer = Gatherer([features])
    fill(straight, gatherer, 0, rows, at)
    staging = make_staging(staged, 3 * 10 * 12 * 2 + 5)
    assert staging.num_windows == 3
    fill(staged, gatherer, 0, rows, at, staging)
    assert torch.equal(staged, straight)
    np.testing.assert_array_equal(staged[7].numpy(), features.read(rows[4]))
    assert not staged[[2, 3, 6, 10]].any()


def test_too_large_for_the_device_says_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    cuda = torch.device("cuda")
    require_memory((5, 10, 10), torch.float16, cuda)
    with pytest.raises(BadConfig, match="at most 1000 bytes free, found 1200 bytes needed"):
        require_memory((6, 10, 10), torch.float16, cuda)
