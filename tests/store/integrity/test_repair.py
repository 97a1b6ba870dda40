"""`repair` touches what is damaged and no more."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from damaged import flip, found, group_file, metadata, of, place, state
from shelves import in_turn

from antcache.annotations import Taxonomy
from antcache.cli.main import cli
from antcache.errors import DamagedStore
from antcache.store import Store
from antcache.store.backends import find_backend
from antcache.store.integrity.repair import repair
from antcache.store.integrity.verify import verify

GROUPS = ["", "labels", "targets", "features", "features/rgb", "features/tokens"]


@pytest.mark.slow
def test_damaged_repaired_and_written_again_it_is_what_it_was(
    store: Store, rot: ModuleType
) -> None:
    result = rot.rounds(store, 4, random.Random(11))
    assert result.pop("videos damaged") >= 4
    assert result == {"others dropped": 0, "not dropped": 0, "not as before": 0}


def test_exactly_what_is_damaged_goes(store: Store) -> None:
    root = Path(store.path)
    damaged = ["features/rgb/v2", "features/flow/v1", "labels/validation", "targets/sparse"]
    for key in damaged:
        flip(metadata(store, key), 40)
    path = group_file(store, "features/flow")
    right = path.read_bytes()
    flip(path, 55)
    before = state(root)
    plan = repair(store, dry_run=True)
    assert state(root) == before
    assert not plan.intact
    report = repair(store)
    assert report.intact
    assert of(report.actions, "dropped") == of(plan.actions, "dropped") == set(damaged)
    assert of(report.actions, "restored") == of(plan.actions, "restored") == {"features/flow"}
    assert path.read_bytes() == right
    after = state(root)
    gone = {name for name in before if name not in after}
    assert gone == {n for n in before if any(f"/{k}" in n for k in damaged)}
    assert {n for n in after if after[n] != before[n]} == {str(path)}  # not even touched
    commands = {action.key: action.next for action in report.actions}
    assert "annotations import" in commands["labels/validation"]
    assert "antcache teacher" in commands["targets/sparse"]
    assert "bit rot" in commands["features/rgb/v2"]
    assert verify(store).intact
    assert store.videos("rgb") == ["v1", "v3", "v4"]


def test_videos_of_an_extraction_are_extracted_again(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s")
    config = {"backbone": "b", "decoding": 1}
    store.create_stream("rgb", dim=2, dtype="float16", fps=1, source="b", config=config)
    store.write_features("rgb", "v1", np.zeros((3, 2), np.float16))
    flip(place(store, "features/rgb/v1"), 3)
    assert [action.next for action in repair(store).actions] == ["antcache extract"]


WAYS = ["flip", "empty", "gone", "rubbish"]


@pytest.mark.parametrize(
    ("store", "way", "key"),
    [
        (kind, way, key)
        for number, key in enumerate(GROUPS)
        for kind, way in in_turn(WAYS[number % 2 :] + WAYS[: number % 2])
    ],
    indirect=["store"],
)
def test_damaged_groups_are_found_and_restored_to_the_byte(
    store: Store, key: str, way: str
) -> None:
    path = group_file(store, key)
    right = path.read_bytes()
    if way == "flip":
        flip(path, len(right) // 2)
    elif way == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if way == "empty" else b"x" + right[:-7] + b"yz")
    damaged = find_backend(store.path)
    assert found(damaged) == {(key, "metadata")}
    report = repair(damaged)
    assert report.intact
    assert of(report.actions, "restored") == {key}
    assert path.read_bytes() == right
    assert Store.open(store.path).dataset == "toy"


def test_splits_that_name_two_datasets_tell_nothing_of_the_root(store: Store) -> None:
    arrays, attributes = store.backend.read("labels/train")
    other = {**attributes, "dataset": "other"}
    store.backend.publish("labels/train", arrays, other, overwrite=True)
    path = group_file(store, "")
    path.write_bytes(b"x" + path.read_bytes()[1:-3])  # more than one bit
    before = state(Path(store.path))
    report = repair(find_backend(store.path))
    assert not report.intact
    (action,) = report.actions
    assert (action.key, action.done) == ("", "left")
    assert action.what == "its labels do not agree on the dataset"
    assert state(Path(store.path)) == before
    with pytest.raises(DamagedStore, match="antcache store repair"):
        Store.open(store.path)


def test_a_stream_that_nobody_knows_any_more_can_be_made_again(store: Store) -> None:
    group_file(store, "features/rgb").write_bytes(b"{}")
    for video in store.videos("rgb"):
        flip(metadata(store, f"features/rgb/{video}"), 40)
    report = repair(store)
    assert report.intact
    assert of(report.actions, "dropped") == {
        "features/rgb",
        *(f"features/rgb/v{number}" for number in (1, 2, 3, 4)),
    }
    assert store.streams() == ["flow", "tokens"]
    assert verify(store).intact
    store.create_stream("rgb", dim=3, dtype="float16", fps=1, source="x", config={})
    store.write_features("rgb", "v1", np.zeros((3, 3), np.float16))
    assert verify(store).intact


def put_elsewhere(store: Store, source: str, target: str) -> None:
    """Copy a unit into the place of another one."""
    old, new = store.backend.location(source), store.backend.location(target)
    if old.is_dir():
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(old, new)
    else:
        shutil.copy(old, new)


def test_videos_that_disagree_restore_nothing(tmp_path: Path, repo: Path) -> None:
    """Somebody has put a video of another stream here, which does not say so itself."""
    for kind in ("zarr", "hdf5"):
        shutil.copytree(repo / "tests/golden/format-1" / kind, tmp_path / kind)
        store = Store.open(tmp_path / kind)
        put_elsewhere(store, "features/flow/t1", "features/rgb/t1")
        group_file(store, "features/rgb").write_bytes(b"{}")
        report = repair(store)
        assert not report.intact
        assert [(a.key, a.done) for a in report.actions] == [("features/rgb", "left")]
        assert "t1" in store.videos("rgb")


def test_a_video_that_says_where_it_belongs_is_left_there(store: Store) -> None:
    put_elsewhere(store, "features/flow/v1", "features/rgb/v1")
    assert found(store) == {("features/rgb/v1", "place")}
    with pytest.raises(DamagedStore, match=r"rgb/v1: another unit stands here.*features/flow/v1"):
        store.features("rgb", "v1")
    before = state(Path(store.path))
    report = repair(store)
    assert not report.intact
    assert [(a.key, a.done) for a in report.actions] == [("features/rgb/v1", "left")]
    assert state(Path(store.path)) == before


def test_a_rule_for_gaps_that_was_changed_on_the_way_is_dropped(store: Store) -> None:
    fingerprint = store.stream("rgb").fingerprint
    store.set_gap_rule("rgb", step_s=0.5, max_age_s=1.0)
    store.write_features("rgb", "v5", np.zeros((3, 32), np.float16))
    group_file(store, "features/rgb").write_bytes(b"{}")
    report = repair(store)
    assert report.intact
    assert "rule for gaps" in report.actions[0].what
    stream = store.stream("rgb")
    assert (stream.step_s, stream.max_age_s, stream.fingerprint) == (None, None, fingerprint)


def test_labels_that_lost_their_classes_are_imported_again(store: Store) -> None:
    taxonomy = store.taxonomy
    splits = {split: store.labels(split) for split in store.splits()}
    many = Taxonomy.from_dict({**taxonomy.to_dict(), "many_shot_actions": [0]})
    store.write_labels("train", splits["train"], many, source="x", overwrite=True)
    group_file(store, "labels").write_bytes(b"{}")  # its splits do not agree on the lists
    report = repair(store)
    assert report.intact
    assert of(report.actions, "dropped") == {"labels/train", "labels/validation"}
    assert verify(store).intact
    assert (store.splits(), store.dataset) == ([], "toy")
    for split, segments in splits.items():
        store.write_labels(split, segments, many, source="x")
    assert store.taxonomy == many
    assert store.targets("dense").attributes["taxonomy"] == store.taxonomy.fingerprint
    assert verify(store).intact


def test_the_name_of_a_dataset_without_labels_is_not_made_up(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", dataset="toy")
    store.create_stream("rgb", dim=2, dtype="float16", fps=1, source="b", config={})
    group_file(store, "").write_bytes(b"")
    report = repair(find_backend(store.path))
    assert "name is lost" in report.actions[0].what
    assert Store.open(store.path).dataset is None


def test_a_video_that_another_process_works_on_is_left(store: Store) -> None:
    flip(place(store, "features/rgb/v1"), 1200)
    with store.claim_features("rgb", "v1") as ours:
        assert ours
        report = repair(store)
    assert of(report.actions, "left") == {"features/rgb/v1"}
    assert not report.intact
    assert store.videos("rgb")[0] == "v1"


def test_what_killed_writers_left_is_swept(store: Store) -> None:
    left = Path(store.path) / ".staging" / "0123"
    left.mkdir(parents=True)
    (left / "unit").write_text("half")
    assert verify(store).intact
    assert left.exists()
    repair(store)
    assert not left.parent.exists()


def test_commands(store: Store) -> None:
    path = str(store.path)
    run = CliRunner().invoke
    result = run(cli, ["store", "verify", path])
    assert result.exit_code == 0
    assert "intact: 16 units and 7 groups" in result.stdout
    flip(place(store, "features/rgb/v1"), 1200)
    result = run(cli, ["store", "verify", path])
    assert result.exit_code == 1
    assert "features/rgb/v1" in result.stdout
    assert "antcache store repair" in result.stderr
    fields = json.loads(run(cli, ["store", "verify", path, "--json", "--workers", "2"]).stdout)
    assert fields["damaged"][0]["key"] == "features/rgb/v1"
    log = Path(f"{path}.log")
    result = run(cli, ["store", "repair", path, "--dry-run"])
    assert result.exit_code == 1
    assert "features/rgb/v1: would be dropped" in result.stdout
    assert not log.exists()
    result = run(cli, ["store", "repair", path])
    assert result.exit_code == 0
    assert "features/rgb/v1: dropped" in result.stdout
    assert "next, for features/rgb/v1: " in result.stdout
    assert "features/rgb/v1: dropped" in log.read_text()
    result = run(cli, ["store", "repair", path, "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["actions"] == []
    for command in ("verify", "repair"):
        result = run(cli, ["store", command, f"{path}/nowhere"])
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1
