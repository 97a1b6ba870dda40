"""Values are the same where their checksums are; parts of a name are put together in one way."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from antcache.store import format as format_module
from antcache.store.format import checksum, difference, fingerprint, join, same_values

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
NAN = np.where(ROWS == 5, np.nan, ROWS).astype(np.float32)
ARRAYS = {
    "rows": ROWS,
    "rows of another order of bytes": ROWS.astype(">f4"),
    "rows that lie otherwise": np.asfortranarray(ROWS),
    "one value": np.where(ROWS == 11, 12, ROWS).astype(np.float32),
    "minus zero": np.where(ROWS == 0, np.float32(-0.0), ROWS),
    "no number": NAN,
    "no number again": NAN.copy(),
    "other type": ROWS.astype(np.float64),
    "bits of another type": ROWS.view(np.int32),
    "other shape": ROWS.reshape(3, 4),
    "fewer": ROWS[:3],
    "none": ROWS[:0],
    "text": np.array(["a", "jalapeño"]),
    "text as objects": np.array(["a", "jalapeño"], dtype=object),
    "longer text": np.array(["a", "jalapeños"]),
}


@pytest.mark.parametrize("chunk_bytes", [format_module.CHUNK_BYTES, 24])
def test_values_are_the_same_where_their_checksums_are(
    chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(format_module, "CHUNK_BYTES", chunk_bytes)
    pairs = list(product(ARRAYS, ARRAYS))
    for one, other in pairs:
        same = checksum(ARRAYS[one]) == checksum(ARRAYS[other])
        assert same_values(ARRAYS[one], ARRAYS[other]) == same, (one, other)
    alike = {pair for pair in pairs if same_values(*(ARRAYS[name] for name in pair))}
    assert ("rows", "rows of another order of bytes") in alike
    assert ("no number", "no number again") in alike
    assert ("rows", "minus zero") not in alike


def test_settings_differ_where_what_is_stored_of_them_does() -> None:
    """Those of a store are lists; those that are made anew may still be tuples."""
    crop = {"size": [64, 64], "mean": [0.5, [1.0]]}
    made = {"size": (64, 64), "mean": (0.5, (1.0,))}
    kept = {"preprocessing": crop, "weights": "a", "clip": None, "rate": float("nan")}
    same = {"preprocessing": made, "weights": "a", "rate": float("nan")}
    assert difference(kept, same) == ""
    assert difference(kept, {**same, "weights": "b"}) == "weights: 'a' -> 'b'"
    turned = {**same, "preprocessing": {**made, "size": (64, 32)}}
    assert difference(kept, turned) == (
        "preprocessing: {'mean': [0.5, [1.0]], 'size': [64, 64]} -> "
        "{'mean': [0.5, [1.0]], 'size': [64, 32]}"
    )
    assert fingerprint({"rate": 1}) != fingerprint({"rate": 1.0})
    assert difference({"rate": 1}, {"rate": 1.0}) == "rate: 1 -> 1.0"


def test_names_are_put_together() -> None:
    assert join("features", "rgb", "v1") == "features/rgb/v1"
    assert (join("", "zarr.json"), join("labels", ""), join("", "")) == ("zarr.json", "labels", "")
