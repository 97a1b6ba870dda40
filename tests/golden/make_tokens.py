"""Writes the golden files of format 2: streams of tokens, for later versions to read.

    python tests/golden/make_tokens.py [OUT]

A store of each kind, and `expected.json`: what was in them, values included. The files in
`format-2/` are never made again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from antcache.store import Store
from antcache.store.integrity.convert import ConvertConfig, convert

GRID, DIM = (2, 2, 2), 3
AT = {"anchors": [0.0, 1.0], "gaps": [1.0, 0.25]}


def write_store(path: Path) -> Store:
    """Vectors beside tokens of every type, with all that may be said of them."""
    store = Store.create(path, dataset="golden")
    rng = np.random.default_rng(0)
    settings: dict[str, Any] = {"dim": DIM, "fps": 8.0, "source": "random", "config": {"a": None}}
    store.create_stream("rgb", dtype="float16", **settings)
    streams: dict[str, dict[str, Any]] = {
        "float16": {"future": (0.25, 1.0)},
        "float32": {"compressed": True, "pooled_from": (4, 2, 6)},
        "int8": {"at": AT, "future": (0.5,)},
    }
    for name, own in streams.items():
        store.create_stream(name, dtype=name, grid=GRID, **own, **settings)
    for number, video in enumerate(("t0", "v é")):
        rows = rng.normal(size=(4 + number, 16, DIM)).astype(np.float32)
        times = np.array([0.5, 1.0, 1.25, 2.0, 31 / 30])[: len(rows)]
        store.write_features("rgb", video, rows[:, 0])
        store.write_features("float16", video, rows, start_s=1 / 3)
        store.write_features("float32", video, rows[:, :8], times=np.arange(len(rows)) * 0.3)
        store.write_features("int8", video, rows[:, :12], times=np.sort(times))
    return store


def expected(store: Store) -> dict[str, Any]:
    """Settings, attributes and values of all streams, and what values of tokens are read as."""
    found: dict[str, Any] = {}
    for name in store.streams():
        stream = store.stream(name)
        found[f"features/{name}"] = {"settings": stream.settings, "fingerprint": stream.fingerprint}
        for video in store.videos(name):
            key = f"features/{name}/{video}"
            features = store.features(name, video)
            found[key] = {
                "attributes": store.backend.open(key)[1],
                "read": features.read().astype(np.float64).tolist(),
                "seconds": features.seconds.tolist(),
            }
    return found


def main() -> None:
    """Write everything below the folder that is named."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "golden-2")
    out.mkdir(parents=True)
    store = write_store(out / "zarr")
    convert(store, out / "hdf5", ConvertConfig(backend="hdf5"))
    text = json.dumps(expected(store), indent=1, ensure_ascii=False)
    (out / "expected.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
