"""The reading examples of docs/format.md, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy
from antcache.store import Store
from antcache.store.format import checksums

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


def example(repo: Path, name: str) -> dict[str, Any]:
    """What the example that reads the store `name` has found."""
    page = (repo / "docs/format.md").read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (code,) = (e for e in examples if name in e)
    found: dict[str, Any] = {}
    exec(code, found)
    return found


@pytest.mark.parametrize("kind", ["zarr", "h5"])
def test_examples_read_what_was_written(
    kind: str, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store.create(f"store.{kind}")
    names: dict[str, Any] = {"verbs": ("take", "put"), "nouns": ("pan",)}
    taxonomy = Taxonomy(
        dataset="toy",
        actions=("take_pan", "put_pan"),
        action_verbs=(0, 1),
        action_nouns=(0, 0),
        **names,
    )
    segments = Segments.of(
        uid=["a", "b"],
        video=["K000"] * 2,
        start_s=[1, 2],
        stop_s=[2, 3],
        verb=[1, 0],
        noun=[0, 0],
        action=[1, 0],
    )
    store.write_labels("train", segments, taxonomy, source="a test")
    store.create_stream("rgb", dim=2, dtype="float32", fps=4, source="a test", config={})
    store.write_features("rgb", "K000", ROWS, start_s=1.0)

    found = example(repo, f'"store.{kind}"')
    np.testing.assert_array_equal(found["rows"], ROWS)
    assert found["seconds"] == 1.5
    assert found["truth"] == ["put_pan", "take_pan"]


@pytest.mark.parametrize("kind", ["zarr", "h5"])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
@pytest.mark.parametrize("future", [(), (0.25, 1.0)])
@pytest.mark.parametrize("listed", [False, True])
def test_examples_read_tokens(
    kind: str,
    dtype: str,
    future: tuple[float, ...],
    listed: bool,
    repo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each token is where its time, height and width say, whatever reads it."""
    monkeypatch.chdir(tmp_path)
    store = Store.create(f"tokens.{kind}")
    settings: dict[str, Any] = {"dim": 2, "fps": 4, "source": "a test", "config": {}}
    at = {"anchors": [0.0], "gaps": [1.0]} if listed else None
    store.create_stream("vjepa", dtype=dtype, grid=(2, 3, 4), future=future, at=at, **settings)
    seen = np.arange(5 * 24 * 2).reshape(5, 2, 3, 4, 2) - 100.0
    ahead = np.arange(5 * 12 * 2 * len(future)).reshape(5, len(future), 3, 4, 2) + 0.5
    rows = np.concatenate([seen.reshape(5, 24, 2), ahead.reshape(5, -1, 2)], axis=1)
    times = np.array([0.5, 1.0, 3.0, 3.5, 9.0])
    written: dict[str, Any] = {"times": times} if listed else {"start_s": 1.0}
    store.write_features("vjepa", "K000", rows.astype(np.float16), **written)
    found = example(repo, f'"tokens.{kind}"')
    read = store.features("vjepa", "K000").read().astype(np.float32)
    np.testing.assert_array_equal(found["tokens"], read)
    within = 0 if dtype == "float16" else np.abs(rows).max() / 250
    np.testing.assert_allclose(found["seen"], seen, rtol=0, atol=within)
    np.testing.assert_allclose(found["ahead"], ahead, rtol=0, atol=within)
    np.testing.assert_array_equal(found["seconds"], times if listed else 1 + np.arange(5) / 4)


def test_checksums_are_the_documented_ones() -> None:
    """Worked by hand from the page, with nothing of ours."""
    import hashlib

    def by_hand(text: bytes) -> str:
        return "blake2b:" + hashlib.blake2b(text, digest_size=16).hexdigest()

    arrays = {"b": np.array([1, 2], np.float16), "a": np.array(["x"])}
    assert checksums(arrays) == {
        "a": by_hand(b'["string", [1]]' + b'["x"]'),
        "b": by_hand(b'["<f2", [2]]' + np.array([1, 2], "<f2").tobytes()),
    }
