"""Several writers of one store at the same moment: one wins, the others say so or agree."""

from __future__ import annotations

import errno
import fcntl
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antcache.errors import AlreadyExists, FingerprintMismatch, NotAStore
from antcache.store import Store
from antcache.store.format import MARK, STAGING

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
    assert store.backend.damaged_parts("features/rgb/v") == []
    assert not (store.path / STAGING).exists()


CREATE = """
import numpy as np
from fsspec.config import conf, set_conf_env
set_conf_env(conf)  # as where it is imported anew
from antcache.errors import AlreadyExists, FingerprintMismatch
from antcache.store import Store
store = Store.open({path!r})
settings = dict(dim={dim}, dtype="float32", fps=1.0, source="test", config={{"by": {dim}}})
try:
    print(store.create_stream("rgb", **settings).fingerprint)
    store.write_features("rgb", "v{dim}", np.full((3, {dim}), {dim}, np.float32))
except FingerprintMismatch as error:
    sys.exit(3)
"""


@pytest.mark.parametrize("kind", [*KINDS, "remote"])
def test_one_stream_by_processes_with_different_settings(
    tmp_path: Path, kind: str, together: Any, request: pytest.FixtureRequest
) -> None:
    """One makes it, the others are refused, and no row gets another one's fingerprint."""
    if kind == "remote":
        options = request.getfixturevalue("s3_options")
        monkeypatch = request.getfixturevalue("monkeypatch")
        from fsspec.config import conf

        monkeypatch.setitem(conf, "s3", options)
        for name, value in options.items():
            monkeypatch.setenv(f"FSSPEC_S3_{name.upper()}", value)
    for number in range(4):
        path = str(tmp_path / f"{number}.{kind}")
        if kind == "remote":
            path = f"s3://kitchen/{uuid.uuid4().hex}/s.zarr"
        Store.create(path, backend=None if kind == "remote" else kind)
        codes = [CREATE.format(path=path, dim=dim) for dim in (1, 2, 3, 4)]
        ended = together(*codes)
        assert sorted(each.code for each in ended) == [0, 3, 3, 3], ended
        (winner,) = (dim for dim, each in enumerate(ended, 1) if each.code == 0)
        store = Store.open(path)
        stream = store.stream("rgb")
        assert (stream.dim, stream.config) == (winner, {"by": winner})
        assert ended[winner - 1].stdout.strip() == stream.fingerprint
        assert store.videos("rgb") == [f"v{winner}"]
        _, attributes = store.backend.open(f"features/rgb/v{winner}")
        assert attributes["fingerprint"] == stream.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_one_stream_where_there_are_no_locks(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is created once is created once all the same."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for number in range(10):
        path = tmp_path / f"{number}"
        made = at_once(lambda n, p=path: Store.open_or_create(p, dataset=f"d{n}", backend=kind))
        stores = [each for each in made if not isinstance(each, Exception)]
        assert {store.dataset for store in stores} == {Store.open(path).dataset}
        assert sum(isinstance(each, FingerprintMismatch) for each in made) == 7, made
        results = at_once(lambda n, s=stores[0]: s.create_stream("rgb", **{**STREAM, "fps": n + 1}))
        assert [r for r in results if not isinstance(r, Exception)] == [stores[0].stream("rgb")]


@pytest.mark.parametrize("kind", KINDS)
def test_staging_that_another_clears_away(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no locks, nothing of ours is in it until the folder is made."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    make, cleared = Path.mkdir, []

    def late(self: Path, *arguments: Any, **options: Any) -> None:
        if self.parent.name == STAGING and not cleared:
            cleared.append(self)
            self.parent.rmdir()
        make(self, *arguments, **options)

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(Path, "mkdir", late)
    store = Store.create(tmp_path / "s", backend=kind)
    assert len(cleared) == 1
    assert Store.open(store.path).kind == kind


def test_two_kinds_of_store_in_one_place(tmp_path: Path) -> None:
    for number in range(10):
        path = tmp_path / f"{number}"
        made = at_once(lambda n, p=path: Store.create(p, backend=KINDS[n % 2]))
        (store,) = (each for each in made if not isinstance(each, Exception))
        assert sum(isinstance(each, AlreadyExists) for each in made) == 7, made
        assert [p.name for p in path.iterdir()] == [store.backend.group_file]


def test_a_store_whose_creator_was_killed(tmp_path: Path) -> None:
    """Nothing but staging is there: not a store yet, and no obstacle."""
    path = tmp_path / "s.zarr"
    (path / STAGING / "left").mkdir(parents=True)
    with pytest.raises(NotAStore, match=str(path)):
        Store.open(path)
    Store.open_or_create(path, dataset="toy")
    assert Store.open(path).dataset == "toy"
    assert not (path / STAGING).exists()


@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_tokens_made_by_many_at_once(tmp_path: Path, kind: str) -> None:
    """Half of them make one stream, half their own, and one gives the store its dataset: all are
    there, whole, in a store that says what it is and has lost nothing."""
    for number in range(3):
        path = tmp_path / f"{number}"
        Store.create(path, backend=kind)

        def work(each: int, path: Path = path) -> Any:
            store = Store.open_or_create(path, dataset="toy" if each == 0 else None)
            name = "shared" if each % 2 else f"t{each}"
            grid = {"grid": (1, 2, each)} if not each % 2 and each else {"grid": (1, 1, 1)}
            made = store.create_stream(name, **STREAM, **grid)
            assert store.backend.group_attributes("")[MARK]["format"] == 2
            return made.name

        assert at_once(work) == [f"t{n}" if not n % 2 else "shared" for n in range(8)]
        store = Store.open(path)
        assert (store.dataset, len(store.streams())) == ("toy", 5)
        assert store.stream("t6").grid == (1, 2, 6)
        assert store.backend.group_attributes("")[MARK]["format"] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_of_vectors_and_tokens_of_one_name_one_is_made(tmp_path: Path, kind: str) -> None:
    for number in range(5):
        path = tmp_path / f"{number}"
        Store.create(path, backend=kind)

        def work(each: int, path: Path = path) -> Any:
            grid = {"grid": (1, 1, 1), "at": {"anchors": [0.0], "gaps": [each]}} if each else {}
            return Store.open(path).create_stream("rgb", **STREAM, **grid).fingerprint

        found = at_once(work)
        (made,) = [each for each in found if isinstance(each, str)]
        assert [type(each) for each in found].count(FingerprintMismatch) == 7
        stream = Store.open(path).stream("rgb")
        assert stream.fingerprint == made
        fields = Store.open(path).backend.group_attributes("features/rgb")
        assert ("grid" in fields) == (stream.grid is not None)
