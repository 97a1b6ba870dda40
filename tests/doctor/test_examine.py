"""The doctor: a healthy store gives no finding, and each fault gives its own, with names."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from antcache.annotations import (
    Dataset,
    Protocol,
    Segments,
    Taxonomy,
    read_annotations,
    sample_windows,
)
from antcache.cli.main import cli
from antcache.doctor.examination import DoctorConfig, examine
from antcache.doctor.report import DoctorReport, Finding
from antcache.doctor.rows import scan_rows
from antcache.errors import DamagedStore, FingerprintMismatch, MissingFeature, MissingKey
from antcache.store import Features, SoftTargets, Store
from antcache.windows.index import WindowIndex, stream_features

TAXONOMY = Taxonomy(
    dataset="toy",
    verbs=("take", "put"),
    nouns=("pan",),
    actions=("take_pan", "put_pan"),
    action_verbs=(0, 1),
    action_nouns=(0, 0),
)
VIDEOS, SECONDS, FPS, DIM = ("v1", "v2", "v3"), 30, 4.0, 5
WINDOW = Protocol(gap_s=1.0, num_frames=10, rate=2.0)


def split(prefix: str, videos: tuple[str, ...]) -> Segments:
    """In each video, a segment every three seconds from 0 s on; the first is too early."""
    columns = [
        (f"{prefix}{v}_{i}", v, 3.0 * i, 3.0 * i + 3, i % 2) for v in videos for i in range(10)
    ]
    uid, video, start_s, stop_s, action = zip(*columns, strict=True)
    return Segments.of(
        uid=uid,
        video=video,
        start_s=start_s,
        stop_s=stop_s,
        verb=action,
        noun=[0] * len(uid),
        action=action,
    )


TRAIN, VALIDATION = split("t", ("v1", "v2")), split("n", ("v3",))
ANNOTATIONS = Dataset(
    name="toy",
    taxonomy=TAXONOMY,
    splits={"train": TRAIN, "validation": VALIDATION},
    source="a test",
)
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(SECONDS * int(FPS), DIM)).astype(np.float16)

Change = Callable[[Store], None]
MakeStore = Callable[..., Store]


def soft_targets(segments: Segments, **changed: Any) -> SoftTargets:
    fields: dict[str, Any] = {
        "uid": segments.uid,
        "valid": np.ones(len(segments), bool),
        "logits": np.zeros((len(segments), 2), np.float32),
        "attributes": {"taxonomy": TAXONOMY.fingerprint},
    }
    return SoftTargets(**{**fields, **changed})


@pytest.fixture
def make(tmp_path: Path) -> MakeStore:
    """Function that writes a store, healthy but for the videos in `changed`: their rows, None for
    no video, or arguments of `write_features`."""
    number = itertools.count()

    def write(
        kind: str = "zarr",
        *,
        fps: float = FPS,
        compressed: bool = False,
        dtype: str = "float16",
        labels: bool = True,
        config: dict[str, Any] | None = None,
        **changed: Any,
    ) -> Store:
        store = Store.create(tmp_path / f"store{next(number)}", backend=kind)
        if labels:
            for name, segments in ANNOTATIONS.splits.items():
                store.write_labels(name, segments, TAXONOMY, source="a test")
            store.write_targets("oracle", soft_targets(TRAIN))
        store.create_stream(
            *("rgb",),
            dim=DIM,
            dtype=dtype,
            fps=fps,
            source="a test",
            config=config or {},
            compressed=compressed,
        )
        for video in VIDEOS:
            given = changed.get(video, {})
            if given is not None:
                fields = given if isinstance(given, dict) else {"rows": given}
                store.write_features("rgb", video, **{"rows": ROWS, **fields})
        return store

    return write


def only(report: DoctorReport, kind: str) -> Finding:
    """The one finding, which is of this kind."""
    assert [finding.kind for finding in report.findings] == [kind]
    assert report.ok != report.findings[0].missing
    return report.findings[0]


def kinds(report: DoctorReport) -> list[str]:
    return [finding.kind for finding in report.findings]


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_healthy_store_has_nothing(make: MakeStore, kind: str, compressed: bool) -> None:
    report = examine(make(kind, compressed=compressed))
    assert report.ok
    assert report.findings == ()
    train, validation = report.windows
    assert (train.segments, train.windows, train.dropped) == (20, 18, {"too_early": 2})
    assert (validation.segments, validation.windows) == (10, 9)
    # The last segment starts at 27 s: its window ends at 26 s, row 104.
    need = validation.videos[0]
    assert (need.needs_s, need.needs_rows, need.has_s, need.has_rows) == (26.0, 105, 29.75, 120)
    # Frames lie at every half second from 0.5 to 26 s: every other row.
    assert validation.rows_needed == len(range(2, 105, 2))
    stream = report.streams[0]
    assert (stream.videos, stream.absent, stream.rows) == (3, 0, 360)
    assert (stream.non_finite, stream.zero, stream.repeated, stream.longest_run_s) == (0, 0, 0, 0)
    assert [(t.split, t.found, t.absent) for t in report.targets] == [
        ("train", 18, 0),
        ("validation", 0, 9),
    ]


def test_an_absent_video(make: MakeStore) -> None:
    report = examine(make(v2=None))
    finding = only(report, "no_features")
    assert finding.missing
    assert finding.where == "rgb, train"
    assert finding.videos == ("v2",)
    assert "9 of 20 segments" in finding.text
    assert "v2 (9: needs up to 26.0 s, row 104, is absent)" in finding.text
    assert report.streams[0].absent == 1
    assert report.windows[0].dropped == {"too_early": 2, "no_features": 9}


def test_features_that_end_too_early(make: MakeStore) -> None:
    """Rows up to 19.75 s: the windows that end at 20, 23 and 26 s lack some."""
    report = examine(make(v1=ROWS[:80], v2=ROWS[:104]), DoctorConfig(splits=("train",)))
    assert kinds(report) == ["short_features", "annotations_end_later"]
    missing, note = report.findings
    assert missing.videos == ("v1", "v2")
    assert "4 of 20 segments, in 2 videos" in missing.text
    assert "v1 (3: needs up to 26.0 s, row 104, has up to 19.8 s, row 79)" in missing.text
    assert "v2 (1: needs up to 26.0 s, row 104, has up to 25.8 s, row 103)" in missing.text
    assert not note.missing
    assert "v1 (to 30.0 s, features to 20.0 s)" in note.text
    assert examine(Store.open(report.store), DoctorConfig(splits=("validation",))).ok


def test_what_is_dropped_is_what_training_refuses(make: MakeStore) -> None:
    store = make(v1=ROWS[:80])
    with pytest.raises(MissingFeature, match="3 of 20 segments"):
        WindowIndex.build(stream_features(store, "rgb", TRAIN), TRAIN, WINDOW)
    assert sum(examine(store).windows[0].videos[0].lacking.values()) == 3


def test_a_video_without_rows(make: MakeStore) -> None:
    finding = only(examine(make(v2=ROWS[:0])), "no_features")
    assert "v2 (9: needs up to 26.0 s, row 104, has no rows)" in finding.text


def test_a_gap_between_listed_times(make: MakeStore) -> None:
    """Nothing between 10 and 15 s."""
    times = np.arange(120) / FPS
    assert examine(make(v3={"times": times})).findings == ()
    kept = (times < 10) | (times >= 15)
    store = make(v3={"rows": ROWS[kept], "times": times[kept]})
    finding = only(examine(store), "gap_in_features")
    assert finding.missing
    assert finding.where == "rgb, validation"
    assert "3 of 10 segments, in 1 videos: v3 (3: up to 5.25 s between rows)" in finding.text
    store.set_gap_rule("rgb", step_s=None, max_age_s=6.0)  # now an older row may stand in
    assert examine(store).findings == ()


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


def test_segments_without_soft_targets(make: MakeStore) -> None:
    """Absent ones are missing where they are trained on; what is not valid is masked: a note."""
    store = make()
    valid = np.ones(20, bool)
    valid[[1, 2, 10]] = False  # the last one is too early anyway
    store.write_targets("gappy", soft_targets(TRAIN, valid=valid))
    part = np.r_[0:3, 10:20]
    store.write_targets("part", soft_targets(TRAIN[part]))
    both = soft_targets(VALIDATION[:5])
    store.write_targets("elsewhere", both)
    store.write_targets("mute", soft_targets(TRAIN, valid=np.zeros(20, bool)))

    def found(name: str, **settings: Any) -> list[tuple[str, bool, str]]:
        report = examine(store, DoctorConfig(targets=(name,), **settings))
        return [(f.kind, f.missing, f.where) for f in report.findings]

    assert found("oracle") == []
    assert found("gappy") == [("no_valid_target", False, "targets/gappy, train")]
    assert found("part") == [("no_target", True, "targets/part, train")]
    assert found("mute") == [("no_valid_target", True, "targets/mute, train")]
    assert found("elsewhere") == [
        ("no_target", True, "targets/elsewhere, train"),
        ("no_target", False, "targets/elsewhere, validation"),
    ]
    assert found("elsewhere", splits=("validation",)) == [
        ("no_target", False, "targets/elsewhere, validation")
    ]
    assert found("part", train_split="validation") == [
        ("no_target", True, "targets/part, validation"),
        ("no_target", False, "targets/part, train"),
    ]
    report = examine(store, DoctorConfig(targets=("part",)))
    assert "7 of 18 segments" in report.findings[0].text
    assert "tv1_3, tv1_4, tv1_5, tv1_6, tv1_7, and 2 more" in report.findings[0].text


def careless(store: Store, name: str, targets: SoftTargets) -> None:
    """Soft targets as a tool that checks nothing might write them."""
    store.backend.publish(f"targets/{name}", targets.arrays(), targets.attributes)


def test_soft_targets_of_other_classes(make: MakeStore) -> None:
    store = make()
    careless(store, "wide", soft_targets(TRAIN, logits=np.zeros((20, 3), np.float32)))
    finding = only(examine(store), "targets_of_other_classes")
    assert finding.text.endswith("another number of classes: expected 2, found 3")
    store = make()
    best = soft_targets(TRAIN, logits=np.eye(20, 4, 3, dtype=np.float32)).top_k(1)
    careless(store, "sparse", best)
    finding = only(examine(store), "targets_of_other_classes")
    assert finding.text.endswith("classes that there are not: expected 0 to 1, found 0 to 3")
    store = make()
    taxonomy = replace(TAXONOMY, verbs=("take", "throw"))
    report = examine(store, annotations=replace(ANNOTATIONS, taxonomy=taxonomy))
    assert sorted(kinds(report)) == ["other_taxonomy", "targets_of_other_classes"]


def test_a_training_split_that_is_gone(make: MakeStore) -> None:
    """A note; imported predictions name none, and what they name may be anything."""
    store = make()
    attributes = soft_targets(TRAIN).attributes
    for name, split in (("known", "validation"), ("odd", ["all"]), ("whole", "all")):
        own = {**attributes, "train_split": split}
        store.write_targets(name, soft_targets(TRAIN, attributes=own))
    finding = only(examine(store), "unknown_training_split")
    assert (finding.missing, finding.where) == (False, "targets/whole")
    assert "trained on the split 'all', which the store does not have" in finding.text
    assert examine(store).ok


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_annotations_instead_of_labels(make: MakeStore, kind: str) -> None:
    store = make(kind, labels=False)
    with pytest.raises(MissingKey, match="no labels"):
        examine(store)
    report = examine(store, annotations=ANNOTATIONS)
    assert report.findings == ()
    assert report.labels == "a test"
    assert report.windows == examine(make(kind)).windows
    with pytest.raises(FingerprintMismatch, match="another dataset"):
        examine(make(kind), annotations=replace(ANNOTATIONS, name="other"))


def test_a_store_without_features(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "empty")
    assert only(examine(store, annotations=ANNOTATIONS), "no_streams").missing


def test_another_protocol(make: MakeStore) -> None:
    store = make(v1=ROWS[:106])  # up to 26.25 s
    assert "short_features" not in kinds(examine(store))
    report = examine(store, DoctorConfig(protocol=replace(WINDOW, gap_s=0.5)))
    assert kinds(report)[0] == "short_features"
    report = examine(store, DoctorConfig(protocol=replace(WINDOW, gap_s=40.0)))
    assert kinds(report)[:2] == ["no_windows", "no_windows"]
    assert not report.ok


def test_progress_counts_the_bytes(make: MakeStore) -> None:
    seen: list[tuple[str, float, float]] = []
    examine(make(), progress=lambda *call: seen.append(call))
    assert seen[-1] == ("MB", 3 * ROWS.nbytes / 1e6, 3 * ROWS.nbytes / 1e6)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli, ["store", "doctor", *map(str, arguments)])


def test_command(make: MakeStore, tmp_path: Path) -> None:
    healthy, sick = make(), make(v2=None)
    result = run(healthy.path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "can serve these windows: nothing missing, 0 notes" in result.stdout
    result = run(sick.path)
    assert result.exit_code == 1
    assert "missing: rgb, train: 9 of 20 segments" in result.stdout
    result = run(sick.path, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found == json.loads(json.dumps(examine(sick).to_dict()))
    assert (found["ok"], found["findings"][0]["videos"]) == (False, ["v2"])
    assert run(sick.path, "--split", "validation").exit_code == 0
    assert run(healthy.path, "--gap", "40").exit_code == 1
    for anchor, words in (("start", "the action"), ("end", "the end of the action")):
        result = run(healthy.path, "--anchor", anchor)
        assert f"1 s before {words}" in " ".join(result.stdout.split())
    for bad in (
        ("--split", "test"),
        ("--stream", "flow"),
        ("--targets", "nobody"),
        ("--fps", 30),
        ("--rate", 0),
        ("--annotations", "table", tmp_path / "nope"),
        ("--annotations", "nope", tmp_path),
    ):
        result = run(healthy.path, *bad)
        assert result.exit_code == 2, bad
        assert len(result.stderr.strip().splitlines()) == 1
    assert run(make(labels=False).path).exit_code == 2
    folder = tmp_path / "annotations"
    folder.mkdir()
    lines = [f"t{i},v1,{3 * i},{3 * i + 3},take,pan" for i in range(10)]
    header = "uid,video,start,stop,verb,noun"
    (folder / "train.csv").write_text("\n".join([header, *lines]))
    result = run(make(labels=False).path, "--annotations", "table", folder, "--name", "toy")
    assert result.exit_code == 0, result.output


def test_no_torch_is_needed() -> None:
    code = "import sys, antcache.doctor.examination, antcache.cli.store.doctor; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "antcache.doctor.examination" in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_every_video_of_epic_kitchens_55(tmp_path: Path, data_dir: Path, kind: str) -> None:
    """The real annotations, and features as long as the real videos: nothing is missing."""
    import pandas as pd

    folder = data_dir / "epic-kitchens-55"
    dataset = read_annotations("epic-kitchens-55", folder)
    seconds = pd.read_csv(folder / "EPIC_video_info.csv").set_index("video")["duration"]
    store = Store.create(tmp_path / "store", backend=kind)
    store.create_stream("rgb", dim=4, dtype="float16", fps=4, source="a test", config={})
    rng = np.random.default_rng(0)
    for video in (v for segments in dataset.splits.values() for v in segments.videos):
        rows = rng.normal(size=(int(seconds[video] * 4) + 1, 4)).astype(np.float16)
        store.write_features("rgb", video, rows)
    report = examine(store, annotations=dataset)
    assert report.findings == ()
    assert [(r.split, r.windows, r.dropped, r.padded) for r in report.windows] == [
        ("train", 23_430, {"too_early": 63}, 364),
        ("validation", 4_969, {"too_early": 10}, 65),
    ]


def test_windows_are_those_of_the_anchor(make: MakeStore) -> None:
    """What is too early, and until when rows are needed, is counted back from there."""
    store = make()
    for anchor in (0.0, 1.0):
        protocol = replace(WINDOW, anchor=anchor)
        report = examine(store, DoctorConfig(protocol=protocol))
        for part in report.windows:
            segments = store.labels(part.split)
            expected = sample_windows(segments.start_s, protocol, segments.stop_s)
            due = protocol.reference_s(segments.start_s, segments.stop_s) - protocol.gap_s
            assert part.windows + sum(part.dropped.values()) == len(segments)
            assert part.dropped.get("too_early", 0) == (~expected.kept).sum()
            needed = max(need.needs_s for need in part.videos)
            assert needed == pytest.approx(due[expected.kept].max(), abs=1 / 30)
