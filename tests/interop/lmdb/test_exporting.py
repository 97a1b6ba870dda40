"""LMDBs out of a store: exactly what came in, in frames, whole or not at all."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frame_lmdbs import DENSE, DIM, FOUR_FPS, HOLED, SPARSE, bring, read, run, values_of, write

from antcache.errors import AlreadyExists, BadConfig, MissingKey
from antcache.files.locks import hold
from antcache.interop.lmdb import exporting as lmdb_export
from antcache.interop.lmdb.exporting import export_lmdb
from antcache.store import Store


@pytest.mark.parametrize(
    "videos",
    [
        {"P01_1": DENSE, "P01_10": range(61, 91), "P01-x": [1]},
        {"a": FOUR_FPS, "b": FOUR_FPS + 3},
        {"a": SPARSE, "b": HOLED, "c": [5, 6, 1000]},
        {"v": [10**10 - 1]},
    ],
    ids=["dense", "four", "sparse", "last"],
)
@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_round_trip_is_exact(tmp_path: Path, videos: dict[str, Any], backend: str) -> None:
    first = Store.create(tmp_path / "first", backend=backend)
    original = write(tmp_path / "rgb", values_of(videos))
    bring(first, rgb=original)
    export_lmdb(first, "rgb", tmp_path / "again/rgb")
    assert read(tmp_path / "again/rgb") == read(original)
    assert [p.name for p in (tmp_path / "again").iterdir()] == ["rgb"]
    second = Store.create(tmp_path / "second")
    bring(second, rgb=tmp_path / "again/rgb")
    assert second.stream("rgb").fingerprint == first.stream("rgb").fingerprint
    for video in videos:
        (arrays, old), (_, new) = (s.backend.open(f"features/rgb/{video}") for s in (first, second))
        assert old == new | {k: old[k] for k in old if k == "files"}  # checksums and times
        assert arrays["rows"].shape == (len(videos[video]), DIM)


def test_an_export_says_how_long_it_took(store: Store, tmp_path: Path) -> None:
    bring(store, rgb=write(tmp_path / "rgb", values_of({"v": [1, 2]})))
    began = time.monotonic()
    report = export_lmdb(store, "rgb", tmp_path / "out")
    assert 0 < report.seconds <= time.monotonic() - began
    assert (report.videos, report.rows, report.moved) == (1, 2, 0)


def test_float16_is_widened_exactly(store: Store, tmp_path: Path) -> None:
    values = values_of({"v": DENSE[:20]})
    values[min(values)] = np.full(DIM, 0.1, "<f4").tobytes()
    bring(store, rgb=write(tmp_path / "rgb", values), config={"dtype": "float16"})
    assert store.features("rgb", "v").rows.dtype == np.float16
    export_lmdb(store, "rgb", tmp_path / "out")
    for key, value in read(tmp_path / "out").items():
        expected = np.frombuffer(values[key], "<f4").astype(np.float16).astype("<f4")
        assert value == expected.tobytes()
    with pytest.raises(BadConfig, match=r"w: values that float16 can't hold.*3\.4e\+38"):
        bring(
            store, big=write(tmp_path / "big", values_of({"w": [1]})), config={"dtype": "float16"}
        )


def test_export_takes_the_next_frame(store: Store, tmp_path: Path) -> None:
    store.create_stream("rgb", dim=1, dtype="float16", fps=4, source="x", config={})
    store.write_features("rgb", "v", np.arange(6, dtype=np.float16)[:, None])
    store.write_features("rgb", "w", np.ones((1, 1), np.float16), start_s=1.001)
    result = run("export", "lmdb", store.path, "--stream", "rgb", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "5 rows were not seen at a frame" in result.stderr
    written = {k.decode(): np.frombuffer(v, "<f4")[0] for k, v in read(tmp_path / "out").items()}
    frames = {"v": {1: 0, 8: 1, 15: 2, 23: 3, 30: 4, 38: 5}, "w": {31: 1}}
    assert written == {
        f"{video}_frame_{n:010d}.jpg": value
        for video, numbers in frames.items()
        for n, value in numbers.items()
    }


def test_faults_of_exports(store: Store, tmp_path: Path) -> None:
    store.create_stream("rgb", dim=1, dtype="float32", fps=30, source="x", config={})
    with pytest.raises(MissingKey, match="no stream 'flow'"):
        export_lmdb(store, "flow", tmp_path / "out")
    with pytest.raises(MissingKey, match="no videos"):
        export_lmdb(store, "rgb", tmp_path / "out")
    store.write_features("rgb", "v", np.zeros((3, 1), np.float32))
    with pytest.raises(BadConfig, match="features/rgb/v: rows 0 and 1 would both be frame 1"):
        export_lmdb(store, "rgb", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    for there in (tmp_path / "out", store.path):
        result = run("export", "lmdb", store.path, "--stream", "rgb", "--output", there)
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1
    with pytest.raises(AlreadyExists, match=str(tmp_path / "out")):
        export_lmdb(store, "rgb", tmp_path / "out", key_fps=15)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_appears_whole_or_not_at_all(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_export, "FIRST_MAP_BYTES", 1 << 15)  # must grow several times
    monkeypatch.setattr(lmdb_export, "BLOCK_BYTES", 1 << 14)
    values = values_of({"a": DENSE, "b": DENSE}, dim=300)
    bring(store, rgb=write(tmp_path / "rgb", values))
    folder = tmp_path / "new"

    def stop(label: str, done: float, total: float) -> None:
        if label == "rows" and done >= 320:
            assert not (folder / "out").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_lmdb(store, "rgb", folder / "out", progress=stop)
    assert not folder.exists()
    killed = folder / f".out.{'0' * 32}"
    killed.mkdir(parents=True)
    (killed / "data.mdb").write_bytes(b"half")
    with hold(folder / ".out.lock"), pytest.raises(AlreadyExists, match="another process"):
        export_lmdb(store, "rgb", folder / "out")
    assert killed.exists()
    export_lmdb(store, "rgb", folder / "out")
    assert [p.name for p in folder.iterdir()] == ["out"]
    assert [p.name for p in (folder / "out").iterdir()] == ["data.mdb"]
    assert read(folder / "out") == values


def test_commands_start_without_lmdb(repo: Path) -> None:
    code = (
        "import sys, antcache.cli.importing, antcache.cli.exporting; "
        "print({'lmdb', 'torch'} & sys.modules.keys())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repo
    )
    assert out.stdout == "set()\n"


def test_tokens_are_not_exported(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    store.create_stream("t", dim=2, dtype="float16", fps=4, source="x", config={}, grid=(1, 1, 1))
    store.write_features("t", "v", np.zeros((3, 1, 2), np.float16))
    with pytest.raises(BadConfig, match="features/t: a key of an LMDB holds one vector"):
        export_lmdb(store, "t", tmp_path / "out")
    assert not (tmp_path / "out").exists()
