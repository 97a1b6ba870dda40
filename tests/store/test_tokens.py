"""Streams of tokens: what they may be, how they come back, and what they make of a store."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch, NotAStore, WriteFailed
from antcache.store import Features, Store, Stream
from antcache.store import backends as backends_module
from antcache.store.format import FORMAT, MARK, TOKEN_FORMAT
from antcache.store.integrity.info import describe
from antcache.store.quantise import dequantise, quantise
from antcache.store.reading.gather import Gatherer, proven

DIM, GRID = 6, (2, 2, 3)
TOKENS: dict[str, Any] = {"dim": DIM, "dtype": "float16", "fps": 8.0, "source": "x", "config": {}}
AT = {"anchors": [0.0, 1.0], "gaps": [1.0, 0.25]}
VECTORS: dict[str, Any] = {**TOKENS, "name": "rgb"}


def rows_of(*shape: int, dtype: str = "float16") -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(*shape, DIM)).astype(dtype)


def mark(store: Store) -> Any:
    return store.backend.group_attributes("")[MARK]["format"]


@pytest.fixture(params=["zarr", "hdf5"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store", backend=request.param)


# What a stream of tokens may be


def test_a_stream_of_vectors_says_nothing_of_tokens(store: Store) -> None:
    """Its settings, fingerprint and attributes are those of a store of format 1."""
    stream = store.create_stream(**VECTORS)
    assert (stream.num_tokens, stream.row_shape, stream.grid) == (1, (DIM,), None)
    assert stream.settings == {"dim": DIM, "dtype": "float16", "fps": 8.0}
    assert store.backend.group_attributes("features/rgb").keys() == {
        *("dim", "dtype", "fps", "source", "config", "compressed", "fingerprint")
    }


def test_rows_are_kept_for_some_windows_or_for_all(store: Store) -> None:
    some = store.create_stream("some", **TOKENS, grid=GRID, at=AT)
    asked = [(anchor, gap_s) for anchor in (0.0, 0.5, 1.0) for gap_s in (0.25, 0.5, 1.0 + 1e-9)]
    kept = [pair for pair in asked if some.keeps(anchor=pair[0], gap_s=pair[1])]
    assert kept == [(0.0, 0.25), (0.0, 1.0 + 1e-9), (1.0, 0.25), (1.0, 1.0 + 1e-9)]
    everywhere = store.create_stream("all", **TOKENS, grid=GRID)
    assert all(everywhere.keeps(anchor=anchor, gap_s=gap_s) for anchor, gap_s in asked)


def test_tokens_are_settings(store: Store) -> None:
    names = ("grid", "future", "at", "pooled_from")
    changes: tuple[dict[str, Any], ...] = (
        {"grid": (1, 1, 1)},
        {"grid": GRID},
        {"grid": GRID, "future": (0.25,)},
        {"grid": GRID, "future": (0.25, 1)},
        {"grid": GRID, "at": AT},
        {"grid": GRID, "pooled_from": (4, 4, 6)},
        {"grid": GRID, "dtype": "int8"},
    )
    seen = {store.create_stream(**VECTORS).fingerprint}
    for number, changed in enumerate(changes):
        made = store.create_stream(f"t{number}", **{**TOKENS, **changed})
        assert made == store.stream(f"t{number}")  # as it was written
        assert made == store.create_stream(f"t{number}", **{**TOKENS, **changed})
        assert made.settings.keys() >= {*names}
        seen.add(made.fingerprint)
    assert len(seen) == len(changes) + 1
    with pytest.raises(FingerprintMismatch, match=r"grid: \[2, 2, 3\] -> \[2, 3, 2\]"):
        store.create_stream("t1", **TOKENS, grid=(2, 3, 2))
    with pytest.raises(FingerprintMismatch, match="grid: None -> "):
        store.create_stream("rgb", **TOKENS, grid=GRID)


def test_a_row_has_the_tokens_of_its_grid_and_its_futures() -> None:
    made = Stream(name="t", **TOKENS, grid=GRID)
    assert (made.num_tokens, made.row_shape) == (12, (12, DIM))
    made = Stream(name="t", **TOKENS, grid=GRID, future=(0.25, 1.0))
    assert (made.num_tokens, made.row_shape) == (24, (24, DIM))


def test_it_is_one_stream_however_it_is_given() -> None:
    one = Stream(name="t", **TOKENS, grid=GRID, future=(1,), at={"anchors": [0], "gaps": (1,)})
    two = Stream(name="t", **TOKENS, **json.loads(json.dumps(one.token_fields)))
    assert one == two
    assert one.fingerprint == two.fingerprint


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "future without a grid": ({"grid": None, "future": (1.0,)}, "expected a grid, found future"),
    "times without a grid": ({"grid": None, "at": AT}, "found at"),
    "pooled without a grid": ({"grid": None, "pooled_from": GRID}, "found pooled_from"),
    "int8 without a grid": ({"grid": None, "dtype": "int8"}, "float16 or float32, .*dtype int8"),
    "another type": ({"dtype": "float64"}, "float16 or float32 or int8"),
    "two sides": ({"grid": (2, 2)}, "impossible grid"),
    "no grid": ({"grid": ()}, "impossible grid"),
    "a grid of text": ({"grid": "2x2x3"}, "impossible grid"),
    "a side of nothing": ({"grid": (0, 2, 3)}, "impossible grid"),
    "a side below": ({"grid": (-1, -2, 3)}, "impossible grid"),
    "a side of truth": ({"grid": (True, 2, 3)}, "impossible grid"),
    "a side of a half": ({"grid": (2.0, 2, 3)}, "impossible grid"),
    "sides past counting": ({"grid": (10**400, 1, 1)}, "impossible grid"),
    "tokens past counting": ({"grid": (1 << 15, 1 << 15, 1)}, "impossible grid"),
    "a row past memory": ({"grid": (1 << 10, 1 << 10, 1), "dim": 1 << 10}, "at most 64 MiB a row"),
    "futures past memory": (
        {"grid": (1, 1 << 10, 1 << 9), "future": tuple(range(1, 1001)), "dim": 1},
        "at most 64 MiB a row",
    ),
    "a width past counting": ({"dim": 10**400}, "at most 64 MiB a row"),
    "a future now": ({"future": (0.0,)}, "impossible future: expected above 0"),
    "a future behind": ({"future": (-1.0,)}, "impossible future"),
    "a future without end": ({"future": (math.inf,)}, "impossible future"),
    "a future that is none": ({"future": (math.nan,)}, "impossible future"),
    "a future of text": ({"future": ("1",)}, "impossible future"),
    "a future of lists": ({"future": ([1.0],)}, "impossible future"),
    "a future past counting": ({"future": (10**400,)}, "impossible future"),
    "a future twice": ({"future": (1.0, 1)}, "impossible future: expected different"),
    "a future alone": ({"future": 1.0}, "impossible future"),
    "futures past counting": ({"future": tuple(range(1, 2000))}, "impossible future"),
    "times of a list": ({"at": [1.0]}, "impossible at"),
    "no times": ({"at": {}}, "impossible at"),
    "no gap": ({"at": {"anchors": [0.0]}}, "impossible at"),
    "no gaps": ({"at": {"anchors": [0.0], "gaps": []}}, "impossible at"),
    "more of times": ({"at": {**AT, "split": ["train"]}}, "impossible at"),
    "an anchor past the end": ({"at": {**AT, "anchors": [1.5]}}, "impossible anchors"),
    "an anchor that is none": ({"at": {**AT, "anchors": [math.nan]}}, "impossible anchors"),
    "a gap that is none": ({"at": {**AT, "gaps": [math.nan]}}, "impossible gaps"),
    "a gap behind": ({"at": {**AT, "gaps": [-1.0]}}, "impossible gaps"),
    "a gap twice": ({"at": {**AT, "gaps": [1.0, 1.0]}}, "impossible gaps"),
    "a rule for gaps": ({"at": AT, "max_age_s": 1.0}, "no rule for gaps"),
    "pooled from a grid that does not fit": ({"pooled_from": (3, 2, 3)}, "sides that divide 3x2x3"),
    "pooled from a smaller one": ({"pooled_from": (1, 1, 1)}, "sides that divide 1x1x1"),
    "pooled from itself": ({"pooled_from": GRID}, "the grid itself"),
    "pooled from text": ({"pooled_from": "big"}, "impossible pooled_from"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_streams_of_tokens_are_refused(name: str) -> None:
    changed, said = IMPOSSIBLE[name]
    with pytest.raises(BadConfig, match=said) as caught:
        Stream(name="t", **{**TOKENS, "grid": GRID, **changed})
    assert len(str(caught.value)) < 400


# Rows


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("compressed", [False, True])
def test_tokens_come_back(store: Store, dtype: str, compressed: bool) -> None:
    store.create_stream("t", **{**TOKENS, "dtype": dtype}, compressed=compressed, grid=GRID)
    rows = rows_of(5, 12, dtype=dtype)
    store.write_features("t", "v1", rows, start_s=0.5)
    features = Store.open(store.path).features("t", "v1")
    assert (features.rows.shape, features.scale, features.num_rows) == ((5, 12, DIM), None, 5)
    np.testing.assert_array_equal(features.read(), rows)
    assert features.read().dtype == np.dtype(dtype)
    np.testing.assert_array_equal(features.read(np.array([[4, 0]])), rows[[[4, 0]]])
    np.testing.assert_array_equal(features.rows_at([0.5, 0.625]), [0, 1])


@pytest.mark.parametrize("compressed", [False, True])
def test_int8_tokens_come_back_as_their_scales_make_them(store: Store, compressed: bool) -> None:
    store.create_stream("t", **{**TOKENS, "dtype": "int8"}, compressed=compressed, grid=GRID)
    rows = rows_of(5, 12, dtype="float32")
    values, scale = quantise(rows)
    store.write_features("t", "floats", rows)
    store.write_features("t", "int8", values, scale=scale)
    for video in ("floats", "int8"):
        features = Store.open(store.path).features("t", video)
        assert features.scale is not None
        np.testing.assert_array_equal(features.rows[:], values)
        np.testing.assert_array_equal(features.scale[:], scale)
        found = features.read(np.array([[4, 0], [1, 1]]))
        wanted = dequantise(values, scale)[[[4, 0], [1, 1]]]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted)
        out = np.empty_like(found)
        assert features.read(np.array([[4, 0], [1, 1]]), out) is out
        np.testing.assert_array_equal(out, wanted)
        features.release()
        np.testing.assert_array_equal(features.read(), dequantise(values, scale))
        with pytest.raises(ValueError, match="the output is int8"):
            features.read(out=np.empty((5, 12, DIM), np.int8))


def test_other_rows_are_refused(store: Store) -> None:
    store.create_stream("f", **TOKENS, grid=GRID)
    store.create_stream("q", **{**TOKENS, "dtype": "int8"}, grid=GRID)
    values, scale = quantise(rows_of(2, 12))
    nan, negative = scale.copy(), scale.copy()
    nan[1, 3], negative[0, 0] = np.nan, -1
    bad: tuple[tuple[str, np.ndarray[Any, Any], Any, str], ...] = (
        ("f", rows_of(2), None, r"f/v: features of another shape: expected \(rows, 12, 6\)"),
        ("f", rows_of(2, 11), None, "another shape"),
        ("f", rows_of(2, 12), scale, "f/v: only int8 tokens have a scale: found float16"),
        ("q", values, None, "q/v: int8 tokens need a scale each.*found int8 rows and None"),
        ("q", values, scale[:1], "need a scale each"),
        ("q", values, scale.astype(np.float32), "need a scale each.*float32"),
        ("q", values, nan, "finite, 0 or more"),
        ("q", values, negative, "finite, 0 or more"),
        ("q", rows_of(2, 12), scale, "found float16 rows"),
        ("q", rows_of(2, 12).astype(int), None, "found int64 rows"),
        ("q", np.full((2, 12, DIM), np.nan), None, "q/v: values that are not finite"),
    )
    for stream, rows, own, said in bad:
        with pytest.raises(BadConfig, match=said):
            store.write_features(stream, "v", rows, scale=own)
        assert store.videos(stream) == []
    store.write_features("q", "v", values, scale=scale)
    with pytest.raises(AlreadyExists, match="in the store"):
        store.write_features("q", "v", values, scale=scale)


@pytest.mark.parametrize("num_rows", [0, 1])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_few_rows(store: Store, num_rows: int, dtype: str, compressed: bool) -> None:
    store.create_stream("t", **{**TOKENS, "dtype": dtype}, compressed=compressed, grid=GRID)
    store.write_features("t", "v", np.zeros((num_rows, 12, DIM), np.float16))
    assert Store.open(store.path).features("t", "v").read().shape == (num_rows, 12, DIM)


# Rows at the times of windows


def test_only_the_very_times_have_a_row(store: Store) -> None:
    store.create_stream("t", **TOKENS, grid=GRID, at=AT)
    times = np.array([0.5, 1.0, 31 / 30])
    with pytest.raises(BadConfig, match="t/v: rows at the times of windows need times"):
        store.write_features("t", "v", rows_of(3, 12))
    store.write_features("t", "v", rows_of(3, 12), times=times)
    features = store.features("t", "v")
    asked = np.array([[0.0, 0.49], [0.5, 0.5 + 1e-9], [0.5 - 1e-9, 0.51], [31 / 30, 99.0]])
    rows = features.rows_at(asked)
    there = ~features.too_old(rows, asked)
    np.testing.assert_array_equal(
        there, [[False, False], [True, True], [True, False], [True, False]]
    )
    np.testing.assert_array_equal(rows[there], [0, 0, 0, 2])
    assert (rows >= 0).all()
    with pytest.raises(BadConfig, match="no rule for gaps"):
        store.set_gap_rule("t", step_s=1.0, max_age_s=None)


# Gathering


@pytest.mark.parametrize("memory_map", [True, False])
@pytest.mark.parametrize("compressed", [False, True])
def test_tokens_and_their_scales_are_gathered(
    store: Store, memory_map: bool, compressed: bool
) -> None:
    store.create_stream("t", **{**TOKENS, "dtype": "int8"}, compressed=compressed, grid=GRID)
    all_rows = {"a": rows_of(7, 12), "b": rows_of(4, 12) + np.float16(1)}
    for video, rows in all_rows.items():
        store.write_features("t", video, rows)
    opened = Store.open(store.path, memory_map=memory_map)
    features: dict[str, Features] = {video: opened.features("t", video) for video in all_rows}
    with proven(features) as wait:
        wait("a")
        wait("b")
    which, rows = np.array([1, 0, 1]), np.array([[0, 3], [6, 6], [1, 2]])
    values = Gatherer(list(features.values()))
    scales = Gatherer([each.scales() for each in features.values()])
    for _ in range(2):
        out, own = np.empty((3, 2, 12, DIM), np.int8), np.empty((3, 2, 12), np.float16)
        values.into(out, which, rows)
        scales.into(own, which, rows)
        wanted = [list(features.values())[v].read(r) for v, r in zip(which, rows, strict=True)]
        np.testing.assert_array_equal(dequantise(out, own), wanted)
        for video in (0, 1):
            values.release(video)
            scales.release(video)
        values, scales = pickle.loads(pickle.dumps((values, scales)))


def test_vectors_have_no_scales(store: Store) -> None:
    store.create_stream(**VECTORS)
    store.write_features("rgb", "v", rows_of(3))
    with pytest.raises(ValueError, match="float16 rows have no scales"):
        store.features("rgb", "v").scales()


# Format 2


def test_a_store_is_of_format_2_from_its_first_stream_of_tokens(store: Store) -> None:
    store.create_stream(**VECTORS)
    assert mark(store) == describe(store)["format"] == FORMAT == 1
    with pytest.raises(FingerprintMismatch, match="other settings"):
        store.create_stream("rgb", **TOKENS, grid=GRID)
    with pytest.raises(BadConfig, match="impossible grid"):
        store.create_stream("t", **TOKENS, grid=(0, 1, 1))
    assert mark(store) == 1  # nothing came of those
    before = store.backend.group_attributes("")
    store.create_stream("t", **TOKENS, grid=GRID)
    assert mark(store) == describe(store)["format"] == TOKEN_FORMAT == 2
    after = store.backend.group_attributes("")
    assert {**after, MARK: None} == {**before, MARK: None}
    text = store.backend.group_text("")
    store.create_stream("t", **TOKENS, grid=GRID)
    store.create_stream("flow", **TOKENS)
    assert store.backend.group_text("") == text


def test_a_stream_is_made_as_a_whole_or_not_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes that make streams of one name at once, nothing of one is in the other's."""
    other = Store.open(store.path)
    swap = store.backend._swap_group_text

    def late(key: str, text: bytes, *, was: bytes | None) -> bool:
        if key == "features/rgb":
            monkeypatch.undo()
            other.create_stream(**VECTORS)
        return swap(key, text, was=was)

    monkeypatch.setattr(store.backend, "_swap_group_text", late)
    with pytest.raises(FingerprintMismatch, match="grid: None -> "):
        store.create_stream("rgb", **TOKENS, grid=GRID)
    assert store.stream("rgb").grid is None
    for changed in ({"at": AT}, {"pooled_from": (4, 4, 6)}):
        store.create_stream(f"t{len(changed)}", **TOKENS, grid=GRID)
        with pytest.raises(FingerprintMismatch, match="other settings"):
            store.create_stream(f"t{len(changed)}", **TOKENS, grid=GRID, **changed)
        assert store.stream(f"t{len(changed)}").at is None


def test_versions_that_know_no_tokens_refuse_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create_stream("t", **TOKENS, grid=GRID)
    monkeypatch.setattr(backends_module, "FORMATS", (1,))
    with pytest.raises(NotAStore, match=r"expected format 1, found format 2 \(install"):
        Store.open(store.path)
    result = CliRunner().invoke(cli, ["store", "info", str(store.path)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize("said", [4, 0, True, "2", None, [2], 10**400])
def test_other_formats_are_refused(store: Store, said: Any) -> None:
    store.backend.set_group_attributes("", {MARK: {"format": said, "version": "9"}})
    for use in (
        lambda: Store.open(store.path),
        lambda: store.create_stream("t", **TOKENS, grid=GRID),
    ):
        with pytest.raises(NotAStore, match="expected format 1 or 2 or 3, found format") as caught:
            use()
        assert len(str(caught.value)) < 600
    assert store.streams() == []


def test_no_tokens_lie_in_a_store_that_says_format_1(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any step, a store says more than it is, never less; and the same call ends it."""
    swap = store.backend._swap_group_text
    done: list[str] = []

    def killed(after: int) -> Any:
        def swapped(key: str, text: bytes, *, was: bytes | None) -> bool:
            if len(done) == after:
                raise OSError("killed")
            done.append(key)
            return swap(key, text, was=was)

        return swapped

    for after in range(3):  # the mark, `features`, the stream
        monkeypatch.setattr(store.backend, "_swap_group_text", killed(after))
        with pytest.raises(OSError, match="killed"):
            store.create_stream("t", **TOKENS, grid=GRID)
        monkeypatch.undo()
        assert mark(store) == (2 if after else 1)
        assert store.streams() == []
    store.create_stream("t", **TOKENS, grid=GRID)
    assert (mark(store), store.streams()) == (2, ["t"])


def test_a_disk_that_refuses_the_mark_gets_no_stream(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> bool:
        raise WriteFailed("can't be written")

    monkeypatch.setattr(store.backend, "_swap_group_text", refused)
    with pytest.raises(WriteFailed, match="be written"):
        store.create_stream("t", **TOKENS, grid=GRID)
    monkeypatch.undo()
    assert (mark(store), store.streams()) == (1, [])
