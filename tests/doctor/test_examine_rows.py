"""What the doctor says of rows: values, times and rates that are not what they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from toy_store import DIM, RNG, ROWS, VIDEOS, MakeStore, kinds, only

from antcache.doctor.examination import DoctorConfig, examine
from antcache.doctor.rows import scan_rows
from antcache.errors import DamagedStore
from antcache.store import Features, Store


def changed(at: dict[int, float], rows: np.ndarray[Any, Any] = ROWS) -> np.ndarray[Any, Any]:
    """Rows with the first value of some of them changed."""
    copy = rows.copy()
    for row, value in at.items():
        copy[row, 0] = value
    return copy


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_window_with_a_value_that_is_no_number(
    make: MakeStore, kind: str, dtype: str, value: float
) -> None:
    """Row 40 lies at 10 s: in the windows that end at 11 and 14 s, not in that of 8 s."""
    store = make(kind, dtype=dtype, v1=changed({40: value}))
    report = examine(store)
    assert kinds(report) == ["non_finite", "non_finite_rows"]
    assert (report.findings[0].missing, report.findings[1].missing) == (True, False)
    assert "2 of 18 windows" in report.findings[0].text
    assert "v1 (2)" in report.findings[0].text
    assert "1 rows" in report.findings[1].text
    assert "v1 (1, row 40 first)" in report.findings[1].text
    assert report.streams[0].non_finite == 1
    quick = examine(store, DoctorConfig(quick=True))
    assert quick.findings == ()
    for each, read in ((report.streams[0], True), (quick.streams[0], False)):
        numbers = (each.non_finite, each.zero, each.repeated, each.longest_run_s)
        assert (each.scanned, [n is not None for n in numbers]) == (read, [read] * 4)


def test_a_value_that_no_window_sees_is_a_note(make: MakeStore) -> None:
    """Odd rows lie at quarters of a second, where no window looks."""
    finding = only(examine(make(v1=changed({41: np.nan, 119: np.inf}))), "non_finite_rows")
    assert not finding.missing
    assert "2 rows" in finding.text


def test_zero_rows_are_a_note(make: MakeStore) -> None:
    rows = ROWS.copy()
    rows[7:10] = 0
    rows[9, 2] = -0.0
    report = examine(make(v2=rows))
    finding = only(report, "zero_rows")
    assert "3 rows hold nothing but zeros: v2 (3)" in finding.text
    assert (report.streams[0].zero, report.streams[0].repeated) == (3, 0)


def test_repeated_rows(make: MakeStore) -> None:
    """A run of two seconds may be a still video; a longer one, or many, are said."""
    still, frozen = ROWS.copy(), ROWS.copy()
    still[20:28] = still[20]
    frozen[20:29] = frozen[20]
    report = examine(make(v1=still))
    assert report.findings == ()
    assert (report.streams[0].repeated, report.streams[0].longest_run_s) == (7, 2.0)
    finding = only(examine(make(v1=still, v2=frozen)), "repeated_rows")
    assert not finding.missing
    assert "15 rows (4.2%)" in finding.text
    assert "v2 (8; 9 rows alike from 5.0 s on), v1 (7; 8 rows" in finding.text
    doubled = np.repeat(ROWS[:60], 2, axis=0)
    finding = only(examine(make(v1=doubled)), "repeated_rows")
    assert "60 rows (16.7%)" in finding.text


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("block_bytes", [1, 100, 1 << 20])
def test_scan_against_plain_numpy(
    dtype: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the blocks: the same as all rows at once."""
    monkeypatch.setattr("antcache.doctor.rows.BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(1)
    for dim in (1, 3, 9):
        rows = rng.integers(0, 2, (200, dim)).astype(dtype) * rng.integers(0, 3, (200, 1))
        rows = rows.astype(dtype)
        rows[rng.random(200) < 0.1, -1] = np.nan
        rows[rng.random(200) < 0.1, 0] = -np.inf
        rows[rng.random(200) < 0.1, dim // 2] = np.finfo(dtype).max
        read: list[int] = []
        scan = scan_rows(Features(rows=rows, fps=4.0, start_s=0.0), read.append)
        np.testing.assert_array_equal(
            scan.non_finite, np.flatnonzero(~np.isfinite(rows).all(axis=1))
        )
        zero = (rows == 0).all(axis=1)
        np.testing.assert_array_equal(scan.zero, np.flatnonzero(zero))
        bits = [row.tobytes() for row in rows]
        same = [i > 0 and bits[i] == bits[i - 1] and not zero[i] for i in range(200)]
        assert scan.repeated == sum(same)
        runs = []
        for start in range(1, 200):
            length = next((n for n in range(200 - start) if not same[start + n]), 200 - start)
            runs.append((length + 1 if length else 0, 1 - start))
        assert (scan.run, -scan.run_at) == max(runs)
        assert sum(read) == rows.nbytes


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_a_damaged_video_is_reported_and_the_others_are_examined(
    make: MakeStore, kind: str
) -> None:
    store = make(kind, compressed=True, v3=changed({0: np.nan}))
    if kind == "zarr":
        (Path(store.path) / "features/rgb/v1/zarr.json").write_text("{}")
        (Path(store.path) / "features/rgb/v2/rows/c/0/0").write_bytes(b"no blosc frame")
    else:
        (Path(store.path) / "features/rgb/v1.h5").write_bytes(b"no file")
        path = Path(store.path) / "features/rgb/v2.h5"
        with h5py.File(path) as file:
            chunk = file["rows"].id.get_chunk_info(0)
        raw = bytearray(path.read_bytes())
        raw[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
        path.write_bytes(raw)
    report = examine(store)
    assert kinds(report) == ["damaged", "no_features", "no_windows", "non_finite_rows"]
    assert report.findings[0].videos == ("v1", "v2")
    assert "v1 (9: needs up to 26.0 s, row 104, can't be read)" in report.findings[1].text
    assert report.streams[0].absent == 2


def test_other_rates_and_starts_are_notes(make: MakeStore) -> None:
    store = make(v1={"start_s": 3.0}, v2={"rows": np.resize(RNG.normal(size=999), (600, DIM))})
    report = examine(store)
    assert report.ok
    assert kinds(report) == ["features_end_later", "late_start", "before_features"]
    later, late, before = report.findings
    assert "v2 (to 150.0 s, annotations to 30.0 s)" in later.text
    assert "v1 (at 3.0 s)" in late.text
    assert before.text.startswith("1 segments have no window")


def republish(store: Store, video: str, **attributes: Any) -> None:
    """The same video with other attributes, as a careless tool might write it."""
    key = f"features/rgb/{video}"
    arrays, there = store.backend.open(key)
    values = {name: np.array(array[...]) for name, array in arrays.items()}
    store.backend.publish(key, values, {**there, **attributes}, overwrite=True)


def test_a_video_of_another_rate(make: MakeStore) -> None:
    store = make(v1={"rows": np.resize(ROWS, (200, DIM)) + RNG.normal(size=(200, DIM))})
    republish(store, "v1", fps=6.0)
    finding = only(examine(store), "other_rate")
    assert "v1 (6)" in finding.text


def test_listed_times_that_belie_the_rate(make: MakeStore) -> None:
    """Four per second are said, two are there; the windows look at no more."""
    store = make(v1={"rows": ROWS[::2], "times": np.arange(60) / 2})
    finding = only(examine(store), "other_spacing")
    assert not finding.missing
    assert "v1 (0.500 s apart, not 0.250 s)" in finding.text


def test_a_stream_slower_than_the_windows(make: MakeStore) -> None:
    slow = dict.fromkeys(VIDEOS, ROWS[:30])
    finding = only(examine(make(fps=1.0, **slow)), "low_rate")
    assert "1 rows per second for windows of 2 frames per second" in finding.text


def test_rows_that_have_seen_the_future(make: MakeStore) -> None:
    finding = only(examine(make(config={"sees_ahead_s": 0.25})), "sees_future")
    assert finding.missing
    assert "rows have seen 0.25 s after their times" in finding.text


def test_rows_of_other_settings_are_missing(make: MakeStore) -> None:
    store = make()
    republish(store, "v2", fingerprint="another")
    report = examine(store)
    assert kinds(report)[0] == "damaged"
    finding = report.findings[0]
    assert finding.missing
    assert finding.videos == ("v2",)
    assert "made with other settings than its stream" in finding.text
    store = make()
    store.backend.set_group_attributes("features/rgb", {"config": {"weights": "other"}})
    with pytest.raises(DamagedStore, match="not those that its fingerprint was made of"):
        examine(store)
