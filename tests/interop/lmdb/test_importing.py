"""LMDBs of features come in: their times, gaps and names, and imports that go on."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frame_lmdbs import DENSE, DIM, FOUR_FPS, HOLED, SPARSE, bring, read, run, values_of, write

from antcache.errors import BadConfig
from antcache.interop.lmdb import importing as lmdb_import
from antcache.interop.lmdb.exporting import export_lmdb
from antcache.interop.lmdb.features import LmdbKeys, Spacings, scan
from antcache.interop.lmdb.importing import LmdbImportConfig, import_lmdb, plan_lmdb
from antcache.store import Store


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


def test_the_fingerprint_knows_no_folders(tmp_path: Path) -> None:
    prints = set()
    for where in ("here", "there"):
        (tmp_path / where).mkdir()
        store = Store.create(tmp_path / where / "s.zarr")
        bring(store, rgb=write(tmp_path / where / "rgb", values_of({"v": DENSE})))
        prints.add(store.stream("rgb").fingerprint)
    assert len(prints) == 1


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
