"""LMDBs of features: in, out, and in again; their times, gaps and faults."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from antcache.cli.main import cli
from antcache.errors import (
    AlreadyExists,
    BadConfig,
    FingerprintMismatch,
    MissingKey,
    NotFound,
)
from antcache.files.locks import hold
from antcache.interop.lmdb import exporting as lmdb_export
from antcache.interop.lmdb import importing as lmdb_import
from antcache.interop.lmdb.exporting import export_lmdb
from antcache.interop.lmdb.features import LmdbKeys, Spacings, scan
from antcache.interop.lmdb.importing import LmdbImportConfig, import_lmdb, plan_lmdb
from antcache.store import Store

lmdb = pytest.importorskip("lmdb")

DIM = 5
RNG = np.random.default_rng(0)
DENSE = np.arange(1, 301)
FOUR_FPS = np.floor(np.arange(80) * 7.5).astype(int) + 31  # 7 and 8 frames in turn, from 31 on
SPARSE = DENSE[(DENSE - 1) % 6 != 5]  # 25 of 30
HOLED = SPARSE[(SPARSE < 100) | (SPARSE > 160)]

Values = dict[bytes, bytes]


def values_of(videos: dict[str, Iterable[int]], dim: int = DIM) -> Values:
    """Random rows, with one that no arithmetic would reproduce."""
    values = {
        f"{video}_frame_{n:010d}.jpg".encode(): RNG.normal(size=dim).astype("<f4").tobytes()
        for video, frames in videos.items()
        for n in frames
    }
    values[min(values)] = np.array([-0.0, 1e-45, 3.4e38, 1.0, 0.1] * dim, "<f4")[:dim].tobytes()
    return values


def write(path: Path, values: Values, *, subdir: bool = True) -> Path:
    """A new LMDB."""
    with (
        lmdb.open(str(path), map_size=1 << 24, subdir=subdir) as env,
        env.begin(write=True) as transaction,
    ):
        for key, value in values.items():
            transaction.put(key, value)
    return path


def read(path: Path) -> Values:
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return dict(transaction.cursor())


def bring(store: Store, *, progress: Any = None, config: Any = None, **sources: Path) -> list[Any]:
    plans = plan_lmdb(sources, store, LmdbImportConfig(**(config or {})))
    return import_lmdb(plans, store, *([progress] if progress else []))


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in args])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "s.zarr")


def test_dense_keys_become_rows_at_their_times(store: Store, tmp_path: Path) -> None:
    values = values_of({"P01_1": DENSE, "P01_10": range(61, 91)})
    (report,) = bring(store, rgb=write(tmp_path / "rgb", values))
    stream = store.stream("rgb")
    assert (stream.dim, stream.dtype, stream.fps) == (DIM, "float32", 30.0)
    assert stream.source == "LMDB rgb"
    assert store.videos("rgb") == ["P01_1", "P01_10"]
    late = store.features("rgb", "P01_10")
    assert late.times is None
    assert late.start_s == 61 / 30
    frame_90 = np.frombuffer(values[b"P01_10_frame_0000000090.jpg"], "<f4")
    np.testing.assert_array_equal(late.read(late.rows_at([90 / 30]))[0], frame_90)
    assert report.written == ("P01_10", "P01_1")  # in the order of keys
    assert [v.gaps for v in report.plan.videos] == [0, 0]


@pytest.mark.parametrize(
    ("frames", "fps", "step", "regular"),
    [
        (DENSE, 30.0, 1, True),
        (DENSE[::3], 10.0, 3, True),
        (DENSE[::8], 3.75, 8, True),
        (FOUR_FPS, 4.0, 8, False),
        (SPARSE, 30.0, 2, False),
        (HOLED, 30.0, 2, False),
        (DENSE[DENSE % 3 > 0], 20.0, 2, False),
        ([7], 30.0, 1, True),
    ],
)
def test_rhythms(
    store: Store, tmp_path: Path, frames: Any, fps: float, step: int, regular: bool
) -> None:
    bring(store, x=write(tmp_path / "x", values_of({"v": frames})))
    stream, features = store.stream("x"), store.features("x", "v")
    assert stream.fps == pytest.approx(fps, abs=1e-12)
    assert stream.step_s == step / 30
    assert stream.max_age_s is None
    assert (features.times is None) == regular
    np.testing.assert_allclose(features.seconds, np.asarray(frames) / 30, atol=1e-12)


@pytest.mark.parametrize(
    ("spacings", "nominal", "step"),
    [
        ({7: 100, 8: 98, 3: 20, 200: 5}, 7.5, 8),
        ({7: 98, 8: 100}, 7.5, 8),
        ({1: 500, 2: 100}, 1.0, 2),
        ({1: 500, 2: 10, 90: 10}, 1.0, 1),
        ({3: 500, 9: 400}, 3.0, 6),
        ({7: 96, 8: 94, 500: 20}, 7.5, 15),  # 20 rows for each segment, and far to the next
        ({6: 1}, 6.0, 6),  # what never happens is no neighbour
        ({9: 5, 3: 5}, 3.0, 6),  # of equals the smaller
        ({}, 1.0, 1),
    ],
)
def test_nominal_rate_and_step(spacings: dict[int, int], nominal: float, step: int) -> None:
    keys = LmdbKeys(path=Path("x"), frames={}, dim=1, spacings=Spacings(spacings))
    assert (keys.nominal, keys.step) == (nominal, step)


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


def test_gaps_are_reported(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "rgb", values_of({"a": SPARSE, "b": HOLED, "c": [*SPARSE, 400, 500]}))
    result = run("import", "lmdb", store.path, f"rgb={tmp_path / 'rgb'}", "--json")
    assert result.exit_code == 0, result.stderr
    (found,) = json.loads(result.stdout)["streams"]
    assert found["written"] == ["a", "b", "c"]
    by_video = {v["video"]: v for v in found["videos"]}
    assert by_video["a"]["gaps"] == 0
    assert by_video["a"]["first_gap_s"] is None
    assert by_video["b"] == {
        "video": "b",
        "rows": len(HOLED),
        "gaps": 1,
        "longest_gap_s": pytest.approx((161 - 99) / 30 if 161 in HOLED else 0),
        "first_gap_s": pytest.approx(99 / 30),
    }
    assert by_video["c"]["gaps"] == 2
    assert (found["gaps"], found["longest_gap_s"]) == (3, pytest.approx((400 - 299) / 30))
    text = run("import", "lmdb", store.path, f"rgb={tmp_path / 'rgb'}", "--fill", "previous:0.3s")
    assert "until it is 0.3 s old" in text.stdout
    assert "first after s" in text.stdout
    assert "b: 1 gaps, the longest 2.07 s, the first after 3.30 s" in (
        tmp_path / "s.zarr.log"
    ).read_text("utf-8")


def test_fill_is_a_rule_and_no_value(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "rgb", values_of({"a": SPARSE}))
    bring(store, rgb=path)
    before = store.stream("rgb")
    inode = (tmp_path / "s.zarr/features/rgb/a").stat().st_ino
    for fill, expected in (
        ("previous:0.3s", 0.3),
        (None, 0.3),
        ("previous:2s", 2.0),
        ("none", None),
        (None, None),
    ):
        (report,) = bring(store, rgb=path, config={"fill": fill})
        assert report.written == ()
        assert store.stream("rgb").max_age_s == expected
        assert store.features("rgb", "a").max_age_s == expected
    assert store.stream("rgb") == before
    assert (tmp_path / "s.zarr/features/rgb/a").stat().st_ino == inode
    for wrong in ("previous", "previous:0s", "previous:-1s", "next:1s", "0.3", "previous:0.3"):
        with pytest.raises(BadConfig, match="impossible fill"):
            LmdbImportConfig(fill=wrong)


def test_many_lmdbs_and_a_file(tmp_path: Path) -> None:
    write(tmp_path / "rgb", values_of({"v": DENSE}))
    write(tmp_path / "obj.lmdb", values_of({"v": DENSE[::5]}, dim=3), subdir=False)
    command = ("import", "lmdb", tmp_path / "s.h5", f"rgb={tmp_path / 'rgb'}")
    command += (f"obj={tmp_path / 'obj.lmdb'}",)
    plan = json.loads(run(*command, "--dry-run", "--json").stdout)["streams"]
    assert [(s["stream"], s["dim"], s["fps"], s["to_do"]) for s in plan] == [
        ("rgb", DIM, 30.0, ["v"]),
        ("obj", 3, 6.0, ["v"]),
    ]
    assert not (tmp_path / "s.h5").exists()
    assert run(*command).exit_code == 0
    store = Store.open(tmp_path / "s.h5")
    assert store.kind == "hdf5"
    assert store.streams() == ["obj", "rgb"]
    assert run(*command, "--format", "zarr").exit_code == 2
    plan = json.loads(run(*command, "--dry-run", "--json").stdout)["streams"]
    assert [s["done"] for s in plan] == [["v"], ["v"]]
    for wrong in (("rgb",), ("=x",), ("rgb=a", "rgb=b"), (f"no name={tmp_path / 'rgb'}",)):
        result = run("import", "lmdb", tmp_path / "new.zarr", *wrong)
        assert result.exit_code == 2
        assert not (tmp_path / "new.zarr").exists()


def test_an_interrupted_import_is_resumed(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "rgb", values_of({f"v{i}": SPARSE for i in range(4)}))

    def stop(label: str, done: float, total: float) -> None:
        if label == "rgb: videos" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(store, rgb=path, progress=stop)
    assert store.videos("rgb") == ["v0", "v1"]
    seen: dict[str, tuple[float, float]] = {}
    (report,) = bring(store, rgb=path, progress=lambda name, *at: seen.update({name: at}))
    assert report.written == ("v2", "v3")
    assert sorted(report.plan.done) == ["v0", "v1"]
    assert report.rows == 2 * len(SPARSE)
    assert seen == {"rgb: videos": (2, 2), "rgb: rows": (report.rows, report.rows)}
    export_lmdb(store, "rgb", tmp_path / "out")
    assert read(tmp_path / "out") == read(path)


def test_two_imports_share_the_work(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "rgb", values_of({"a": DENSE, "b": DENSE}))
    plans = plan_lmdb({"rgb": path}, store)
    lmdb_import._create(store, plans[0].stream)
    with Store.open(store.path).claim_features("rgb", "a"):
        (report,) = import_lmdb(plans, store)
    assert (report.written, report.elsewhere) == (("b",), ("a",))
    (report,) = import_lmdb(plans, store)  # planned before anything was there
    assert (report.written, report.elsewhere) == (("a",), ("b",))


def replaced(changes: dict[str, bytes]) -> Callable[[Values], Values]:
    return lambda values: values | {os.fsencode(k): v for k, v in changes.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced({"a.jpg": b"1234"}), r"a key of another form.*found a\.jpg"),
        (replaced({"v_frame_0000000000.jpg": b"1234"}), "n from 1, found v_frame_0000000000"),
        (replaced({"v_frame_00000000001.jpg": b"1234"}), "another form"),
        (replaced({"v_frame_0000000001.png": b"1234"}), "another form"),
        (replaced({"v_frame_0000000001.jpg\n": b"1234"}), "another form"),
        (replaced({"\udce9_frame_0000000001.jpg": b"1234"}), r"another form.*\\xe9_frame"),
        (replaced({"a?b_frame_0000000001.jpg": b"1234"}), r"not a name for a video.*'a\?b'"),
        (replaced({"a_frame_0000000002.jpg": b"12345"}), "no row of float32.*multiple of 4.*5"),
        (replaced({"a_frame_0000000002.jpg": b""}), "no row of float32.*found 0"),
        (replaced({"v_frame_0000000002_frame_0000000001.jpg": b"1234"}), "do not lie side by side"),
    ],
)
def test_faulty_keys_are_refused_before_anything_is_written(
    tmp_path: Path, change: Callable[[Values], Values], message: str
) -> None:
    path = write(tmp_path / "rgb", change(values_of({"v": [1, 2, 3]})))
    result = run("import", "lmdb", tmp_path / "s.zarr", f"rgb={path}")
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    with pytest.raises(BadConfig, match=message) as error:
        scan(path)
    assert str(path) in str(error.value)
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"12345678", r"row of c_frame_0000000002\.jpg has another width.*expected 5, found 2"),
        (b"123456789", r"c_frame_0000000002\.jpg is no row of float32.*found 9"),
    ],
)
def test_a_faulty_row_leaves_earlier_videos(
    store: Store, tmp_path: Path, value: bytes, message: str
) -> None:
    values = values_of({"b": DENSE, "c": DENSE, "d": DENSE})
    path = write(tmp_path / "rgb", replaced({"c_frame_0000000002.jpg": value})(values))
    with pytest.raises(BadConfig, match=message):
        bring(store, rgb=path)
    assert store.videos("rgb") == ["b"]
    assert store.backend.damaged_parts("features/rgb/b") == []


@pytest.mark.parametrize("frames", [DENSE[:-1], DENSE[DENSE != 150], [*DENSE[:-1], 400], [1]])
def test_an_lmdb_that_changes_meanwhile(store: Store, tmp_path: Path, frames: Any) -> None:
    plans = plan_lmdb({"rgb": write(tmp_path / "rgb", values_of({"v": DENSE}))}, store)
    shutil.rmtree(tmp_path / "rgb")
    write(tmp_path / "rgb", values_of({"v": frames}))
    with pytest.raises(BadConfig, match="v: the LMDB was changed meanwhile"):
        import_lmdb(plans, store)
    assert store.videos("rgb") == []


def test_values_that_are_not_finite_are_kept_and_counted(store: Store, tmp_path: Path) -> None:
    values = values_of({"a": DENSE, "b": DENSE})
    wild = np.array([np.nan, np.inf, -np.inf, 0, 1], "<f4")
    wild[:1].view("<u4")[:] = 0x7FC01234  # a payload that arithmetic would lose
    for n in (3, 300):
        values[f"b_frame_{n:010d}.jpg".encode()] = wild.tobytes()
    path = write(tmp_path / "rgb", values)
    for _ in range(2):  # at first, and when all is there
        result = run("import", "lmdb", store.path, f"rgb={path}")
        assert result.exit_code == 0
        assert "2 rows of 1 videos hold values that are not finite" in result.stderr
        assert "the first video is b (2 rows)" in result.stderr
    export_lmdb(store, "rgb", tmp_path / "out")
    assert read(tmp_path / "out") == values


def test_what_is_no_lmdb(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "nope", tmp_path / "folder"):
        with pytest.raises(NotFound, match="no LMDB here"):
            scan(path)
    for name, content in (("text", b"x" * 9000), ("blank", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadConfig, match="can't be opened as an LMDB"):
            scan(tmp_path / name)
    write(tmp_path / "empty", {})
    with pytest.raises(NotFound, match="is empty"):
        scan(tmp_path / "empty")
    whole = write(tmp_path / "whole", values_of({"v": range(1, 2000)}))
    scan(whole)
    with (whole / "data.mdb").open("r+b") as file:
        file.truncate(50_000)
    with pytest.raises(BadConfig, match=r"cut off.*expected .* bytes, found 50000"):
        scan(whole)


def test_importing_needs_no_package(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "rgb", values_of({"v": DENSE}))
    monkeypatch.setitem(sys.modules, "lmdb", None)
    bring(store, rgb=path)
    assert store.videos("rgb") == ["v"]
    result = run("export", "lmdb", store.path, "--stream", "rgb", "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "antcache[import]" in result.stderr


def test_the_lmdb_is_only_read(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "rgb", values_of({"v": DENSE}))
    (path / "lock.mdb").unlink()
    before = (path / "data.mdb").read_bytes()
    (path / "data.mdb").chmod(0o444)
    bring(store, rgb=path)
    assert [p.name for p in path.iterdir()] == ["data.mdb"]
    assert (path / "data.mdb").read_bytes() == before


def test_other_settings_or_another_lmdb_are_refused(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "rgb", values_of({"v": DENSE}))
    bring(store, rgb=path)
    with pytest.raises(FingerprintMismatch, match="dtype: 'float32' -> 'float16'"):
        bring(store, rgb=path, config={"dtype": "float16"})
    with pytest.raises(FingerprintMismatch, match=r"key_fps: 30\.0 -> 60\.0"):
        bring(store, rgb=path, config={"key_fps": 60})
    with pytest.raises(FingerprintMismatch, match="source: 'rgb' -> 'flow'"):
        bring(store, rgb=write(tmp_path / "flow", values_of({"w": DENSE})))
    (tmp_path / "b").mkdir()
    other = write(tmp_path / "b/rgb", values_of({"v": DENSE[:-1], "w": FOUR_FPS}))
    with pytest.raises(FingerprintMismatch, match=r"rgb/v in the store has other rows.*300 rows"):
        bring(store, rgb=other)
    (tmp_path / "c").mkdir()
    more = write(tmp_path / "c/rgb", values_of({"w": FOUR_FPS}))
    (report,) = bring(store, rgb=more)  # the rest of the same features, at another rate
    assert report.written == ("w",)
    np.testing.assert_array_equal(store.features("rgb", "w").times, FOUR_FPS / 30)
    store.create_stream("made", dim=DIM, dtype="float32", fps=4, source="x", config={})
    with pytest.raises(FingerprintMismatch, match="importer"):
        bring(store, made=path)


def test_the_fingerprint_knows_no_folders(tmp_path: Path) -> None:
    prints = set()
    for where in ("here", "there"):
        (tmp_path / where).mkdir()
        store = Store.create(tmp_path / where / "s.zarr")
        bring(store, rgb=write(tmp_path / where / "rgb", values_of({"v": DENSE})))
        prints.add(store.stream("rgb").fingerprint)
    assert len(prints) == 1


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


NFD = "cre\u0302pe"


@pytest.mark.parametrize("name", ["cr\u00eape", "\u53a8\u623f 01", NFD])
def test_names_of_any_script_come_back(tmp_path: Path, name: str) -> None:
    video = unicodedata.normalize("NFC", name)
    values = values_of({name: DENSE, "P01": DENSE})
    bring(Store.create(tmp_path / "s.zarr"), rgb=write(tmp_path / "rgb", values))
    exported = tmp_path / "exported"
    export_lmdb(Store.open(tmp_path / "s.zarr"), "rgb", exported)
    (tmp_path / "again").mkdir()
    exported.rename(tmp_path / "again" / "rgb")
    result = run("import", "lmdb", tmp_path / "t.zarr", f"rgb={tmp_path / 'again' / 'rgb'}")
    assert result.exit_code == 0, result.output
    store = Store.open(tmp_path / "t.zarr")
    assert store.videos("rgb") == sorted(["P01", video])
    rows = [values[f"{name}_frame_{n:010d}.jpg".encode()] for n in DENSE]
    assert store.features("rgb", video).read().tobytes() == b"".join(rows)


def test_videos_are_called_as_extract_calls_them(tmp_path: Path) -> None:
    """With a note; a name that the stream has is taken as it is; two never become one."""
    path = write(tmp_path / "rgb", values_of({"P01_01.MP4": DENSE, "P02_01": DENSE}))
    command = ("import", "lmdb", tmp_path / "s.zarr", f"rgb={path}")
    for _ in range(2):
        result = run(*command)
        assert result.exit_code == 0, result.output
        assert "note: rgb: 1 of 2 videos are called as antcache" in result.stderr
        assert "P01_01.MP4 is P01_01" in result.stderr
        assert Store.open(tmp_path / "s.zarr").videos("rgb") == ["P01_01", "P02_01"]
    assert list(scan(path, stored={"P01_01.MP4"}).frames) == ["P01_01.MP4", "P02_01"]
    for both in (("P01.MP4", "P01.mp4"), ("P01", "P01.mp4"), ("cr\u00eape", NFD)):
        twins = write(tmp_path / f"twins {both}", values_of({name: [1] for name in both}))
        with pytest.raises(BadConfig, match="two videos would be called"):
            scan(twins)


def test_tokens_are_not_exported(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    store.create_stream("t", dim=2, dtype="float16", fps=4, source="x", config={}, grid=(1, 1, 1))
    store.write_features("t", "v", np.zeros((3, 1, 2), np.float16))
    with pytest.raises(BadConfig, match="features/t: a key of an LMDB holds one vector"):
        export_lmdb(store, "t", tmp_path / "out")
    assert not (tmp_path / "out").exists()
