"""Several writers of one store at the same moment: one wins, the others say so or agree."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antcache.errors import AlreadyExists, FingerprintMismatch, NotAStore
from antcache.store import Store
from antcache.store.folder import STAGING

KINDS = ("zarr", "hdf5")
STREAM = {"dim": 64, "dtype": "float32", "fps": 1.0, "source": "test", "config": {}}


def rows(value: float) -> np.ndarray:
    return np.full((100, 64), value, np.float32)


def at_once(work: Callable[[int], Any], number: int = 8) -> list[Any]:
    """Results of `work(i)` or their errors, all begun at the same moment."""
    barrier = threading.Barrier(number)
    results: list[Any] = [None] * number

    def run(each: int) -> None:
        barrier.wait()
        try:
            results[each] = work(each)
        except Exception as error:
            results[each] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("kind", KINDS)
def test_created_by_many_at_once(tmp_path: Path, kind: str) -> None:
    for number in range(5):
        path = tmp_path / f"{number}"

        def work(each: int, path: Path = path) -> Any:
            dataset = "toy" if each % 2 else None  # as extraction and import of labels do
            store = Store.open_or_create(path, dataset=dataset, backend=kind)
            return store.create_stream("rgb", **STREAM).fingerprint

        assert len(set(map(str, at_once(work)))) == 1
        store = Store.open(path)
        assert (store.dataset, store.streams(), store.kind) == ("toy", ["rgb"], kind)
        assert not (path / STAGING).exists()


@pytest.mark.parametrize("kind", KINDS)
def test_one_stream_with_many_settings_at_once(tmp_path: Path, kind: str) -> None:
    for number in range(5):
        store = Store.create(tmp_path / f"{number}", backend=kind)
        results = at_once(lambda n, s=store: s.create_stream("rgb", **{**STREAM, "fps": n + 1}))
        made = [r for r in results if not isinstance(r, Exception)]
        assert made == [store.stream("rgb")]
        assert sum(isinstance(r, FingerprintMismatch) for r in results) == 7, results


@pytest.mark.parametrize("kind", KINDS)
def test_one_video_by_many_at_once(tmp_path: Path, kind: str) -> None:
    store = Store.create(tmp_path / "s", backend=kind)
    store.create_stream("rgb", **STREAM)
    results = at_once(lambda n: store.write_features("rgb", "v", rows(n)))
    winners = [n for n, result in enumerate(results) if result is None]
    assert len(winners) == 1
    assert sum(isinstance(r, AlreadyExists) for r in results) == 7, results
    np.testing.assert_array_equal(store.features("rgb", "v").read(), rows(winners[0]))
    assert store.backend.damage("features/rgb/v") == []
    assert not (store.path / STAGING).exists()


def test_a_store_whose_creator_was_killed(tmp_path: Path) -> None:
    """Nothing but staging is there: not a store yet, and no obstacle."""
    path = tmp_path / "s.zarr"
    (path / STAGING / "left").mkdir(parents=True)
    with pytest.raises(NotAStore, match=str(path)):
        Store.open(path)
    Store.open_or_create(path, dataset="toy")
    assert Store.open(path).dataset == "toy"
    assert not (path / STAGING).exists()
