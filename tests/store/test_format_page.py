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

    page = (repo / "docs/format.md").read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = next(e for e in examples if f"store.{kind}" in e)
    found: dict[str, Any] = {}
    exec(code, found)
    np.testing.assert_array_equal(found["rows"], ROWS)
    assert found["seconds"] == 1.5
    assert found["truth"] == ["put_pan", "take_pan"]


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
