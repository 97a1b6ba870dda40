"""Streams and units of tokens whose bytes are right and whose meaning is not: refused in one line
when they are read, named by `verify`, and left where they are by `repair`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shelves import KINDS, Shelf, in_turn

from antcache.errors import DamagedStore
from antcache.store import Store
from antcache.store.integrity.convert import convert
from antcache.store.integrity.info import describe
from antcache.store.integrity.repair import repair
from antcache.store.integrity.verify import verify
from antcache.store.quantise import quantise

ROWS = np.random.default_rng(0).normal(size=(10, 12, 3)).astype(np.float16)
VALUES, SCALE = quantise(ROWS)
TIMES = np.arange(10) / 4.0
AT = {"anchors": [0.0], "gaps": [1.0]}


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path, shelf: Shelf) -> Store:
    kind = request.param
    return shelf.store(tmp_path / "store", ("token meaning", kind), lambda path: write(path, kind))


def write(path: Path, kind: str) -> None:
    """A stream of floats at a rate, and one of int8 at the times of windows."""
    store = Store.create(path, backend=kind)
    settings: dict[str, Any] = {"dim": 3, "fps": 4, "source": "x", "config": {}, "grid": (2, 2, 3)}
    store.create_stream("floats", dtype="float16", **settings)
    store.create_stream("int8", dtype="int8", **settings, at=AT)
    for video in ("v1", "v2"):
        store.write_features("floats", video, ROWS)
        store.write_features("int8", video, ROWS, times=TIMES)


def scale_with(value: float) -> np.ndarray[Any, Any]:
    changed = SCALE.copy()
    changed[9, 11] = value
    return changed


UNITS: dict[str, tuple[str, dict[str, Any], str]] = {
    "vectors": ("floats", {"rows": ROWS[:, 0]}, r"expected float16 \(rows, 12, 3\), found"),
    "fewer tokens": ("floats", {"rows": ROWS[:, :11]}, r"found float16 \(10, 11, 3\)"),
    "another width": ("floats", {"rows": ROWS[..., :2]}, "rows of another kind"),
    "a dimension more": ("floats", {"rows": ROWS[..., None]}, "rows of another kind"),
    "int8 for floats": ("floats", {"rows": VALUES}, "found int8"),
    "a scale of floats": ("floats", {"scale": SCALE}, "no features of a video: expected rows"),
    "floats for int8": ("int8", {"rows": ROWS}, r"expected int8 \(rows, 12, 3\), found float16"),
    "no sign": ("int8", {"rows": VALUES.view(np.uint8)}, "found uint8"),
    "no scale": ("int8", {"scale": None}, "expected rows, scale, times, found rows, times"),
    "a scale of rows": ("int8", {"scale": SCALE[:, 0]}, r"expected float16 \(10, 12\), found"),
    "fewer scales": ("int8", {"scale": SCALE[:9]}, "scales that are not those of its tokens"),
    "longer scales": ("int8", {"scale": SCALE.astype(np.float32)}, "found float32"),
    "a scale that is none": ("int8", {"scale": scale_with(math.nan)}, "scales that can't be"),
    "a scale without end": ("int8", {"scale": scale_with(math.inf)}, "scales that can't be"),
    "a scale below": ("int8", {"scale": scale_with(-1)}, "scales that can't be"),
    "no times": ("int8", {"times": None}, "expected rows, scale, times, found rows, scale"),
    "times that stand": ("int8", {"times": np.zeros(10)}, "times that do not ascend"),
    "other arrays": ("int8", {"offset": SCALE}, "no features of a video"),
}


def again(store: Store, stream: str, changed: dict[str, Any]) -> str:
    """Publish a video anew, with other arrays and right checksums: its key."""
    key = f"features/{stream}/v1"
    arrays, own = store.backend.read(key)
    new = {name: a for name, a in {**arrays, **changed}.items() if a is not None}
    store.backend.publish(key, new, own, overwrite=True)
    return key


@pytest.mark.parametrize(("store", "name"), in_turn(UNITS), indirect=["store"])
def test_units_that_make_no_sense(store: Store, name: str) -> None:
    stream, changed, said = UNITS[name]
    key = again(store, stream, changed)
    with pytest.raises(DamagedStore, match=said) as caught:
        store.features(stream, "v1")
    assert key in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert [(f.key, f.what) for f in verify(store).damaged] == [(key, "meaning")]
    assert [(a.key, a.done) for a in repair(store).actions] == [(key, "left")]
    store.remove(key)
    assert verify(store).intact


@pytest.mark.parametrize("name", ["vectors", "a scale below"])
def test_units_that_make_no_sense_are_not_copied(store: Store, tmp_path: Path, name: str) -> None:
    stream, changed, said = UNITS[name]
    again(store, stream, changed)
    with pytest.raises(DamagedStore, match=said):
        convert(store, tmp_path / "copy")


GROUPS: dict[str, dict[str, Any]] = {
    "another grid": {"grid": [2, 3, 2]},
    "no grid": {"grid": None},
    "a grid of text": {"grid": "2x2x3"},
    "a grid of lists": {"grid": [[2], [2], [3]]},
    "two sides": {"grid": [2, 2]},
    "a side of truth": {"grid": [2, 2, True]},
    "a side of nothing": {"grid": [2, 2, 0]},
    "a side past counting": {"grid": [2, 2, 10**4000]},
    "tokens past memory": {"grid": [1 << 10, 1 << 10, 1], "dim": 1 << 20},
    "a width past counting": {"dim": 10**4000},
    "a future of truth": {"future": [True]},
    "a future of text": {"future": "0.25"},
    "a future of none": {"future": None},
    "a future more": {"future": [0.25]},
    "a future behind": {"future": [-1.0]},
    "a future past counting": {"future": [10**4000]},
    "futures past counting": {"future": list(range(1, 100_000))},
    "futures twice": {"future": [1.0, 1.0]},
    "other times": {"at": {"anchors": [1.0], "gaps": [1.0]}},
    "times of text": {"at": "windows"},
    "times of lists": {"at": {"anchors": [[0.0]], "gaps": [{}]}},
    "times of nothing": {"at": {}},
    "more of times": {"at": {**AT, "split": "train"}},
    "a rule for gaps": {"at": AT, "step_s": 1.0},
    "pooled from less": {"pooled_from": [1, 1, 1]},
    "pooled from more": {"pooled_from": [4, 4, 6]},
    "pooled from text": {"pooled_from": "4x4x6"},
    "another type": {"dtype": "uint8"},
}


@pytest.mark.parametrize(("store", "name"), in_turn(GROUPS), indirect=["store"])
def test_settings_that_make_no_sense(store: Store, name: str) -> None:
    store.backend.set_group_attributes("features/int8", GROUPS[name])
    for use in (
        lambda: store.stream("int8"),
        lambda: store.features("int8", "v1"),
        lambda: describe(store),
    ):
        with pytest.raises(DamagedStore, match=r"features/int8: .*(settings|fingerprint)") as error:
            use()
        assert len(str(error.value)) < 800
        assert len(str(error.value).splitlines()) == 1
    assert store.features("floats", "v1").num_rows == 10
    assert {(f.key, f.what) for f in verify(store).damaged} == {("features/int8", "meaning")}
    assert repair(store).intact  # all videos carry what they were
    assert store.stream("int8").grid == (2, 2, 3)


def test_vectors_are_no_tokens_because_somebody_says_so(store: Store) -> None:
    """A grid that is put beside a stream of vectors does not pass for its settings."""
    store.create_stream("rgb", dim=3, dtype="float16", fps=4, source="x", config={})
    for added in ({"grid": [1, 1, 1]}, {"future": [1.0]}, {"at": AT}, {"pooled_from": [2, 2, 2]}):
        before = store.backend.group_attributes("features/rgb")
        store.backend.set_group_attributes("features/rgb", added)
        with pytest.raises(DamagedStore, match=r"features/rgb: .*(settings|fingerprint)"):
            store.stream("rgb")
        store.backend.set_group_text(
            "features/rgb", store.backend.sealed_group("features/rgb", before)
        )
