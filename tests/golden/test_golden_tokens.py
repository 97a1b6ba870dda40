"""What an earlier version wrote of tokens is read as it was written; see `make_tokens.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antcache.store import Store
from antcache.store.backends import format_of
from antcache.store.format import checksums
from antcache.store.integrity.verify import verify

GOLDEN = Path(__file__).parent / "format-2"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text("utf-8"))


@pytest.mark.parametrize("memory_map", [True, False])
@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_tokens_are_read_as_they_were_written(kind: str, memory_map: bool) -> None:
    store = Store.open(GOLDEN / kind, memory_map=memory_map)
    assert store.kind == kind
    assert format_of(store.backend.group_attributes("")) == 2
    assert store.streams() == ["float16", "float32", "int8", "rgb"]
    read = 0
    for name in store.streams():
        stream, said = store.stream(name), EXPECTED[f"features/{name}"]
        assert json.loads(json.dumps(stream.settings)) == said["settings"]
        assert stream.fingerprint == said["fingerprint"]
        for video in store.videos(name):
            key = f"features/{name}/{video}"
            features, wanted = store.features(name, video), EXPECTED[key]
            assert store.backend.open(key)[1] == wanted["attributes"]
            np.testing.assert_array_equal(features.read(), wanted["read"])
            np.testing.assert_array_equal(features.seconds, wanted["seconds"])
            arrays = store.backend.read(key)[0]
            assert checksums(arrays) == wanted["attributes"]["checksums"]
            assert features.listed == (name == "int8")
            read += 1
    assert read == len(EXPECTED) - 4 == 8


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_a_store_is_intact(kind: str) -> None:
    report = verify(Store.open(GOLDEN / kind))
    assert report.intact
    assert (report.units, report.groups) == (8, 6)
