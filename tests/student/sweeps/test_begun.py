"""Members that are there before a sweep goes on are averaged with no others than their like."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_kitchen import DIM, FPS, MakeStore, oracle_targets, stopped_in_step, tiny_taxonomy

from antcache.annotations import Segments, Taxonomy
from antcache.cli.main import cli
from antcache.errors import FingerprintMismatch, MissingKey
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.sweeps.plan import Sweep
from antcache.student.sweeps.run import sweep

SPLITS = ("train", "validation")


def relabelled(
    store: Store,
    *,
    taxonomy: Taxonomy | None = None,
    gap_s: float | None = None,
    moved_s: float = 0.0,
) -> None:
    """Import the labels again: with other classes, another gap, or later starts."""
    targets = store.targets("oracle")
    store.remove("targets/oracle")
    splits: dict[str, Segments] = {}
    for split in SPLITS:
        segments = store.labels(split)
        splits[split] = replace(segments, start_s=segments.start_s + moved_s)
    protocol = store.protocol if gap_s is None else replace(store.protocol, gap_s=gap_s)
    classes = taxonomy or tiny_taxonomy()
    store.write_splits(splits, classes, source="made up", protocol=protocol, overwrite=True)
    own = {"taxonomy": classes.fingerprint}
    store.write_targets("oracle", replace(targets, attributes=own))


def renamed(store: Store) -> None:
    names = ("peel", *tiny_taxonomy().actions[1:])
    relabelled(store, taxonomy=replace(tiny_taxonomy(), actions=names))


def put_again(store: Store, splits: dict[str, Segments]) -> None:
    """Import labels again, of the same classes, beside the soft targets."""
    store.write_splits(
        splits, tiny_taxonomy(), source="made up", protocol=store.protocol, overwrite=True
    )


def extracted_again(store: Store) -> None:
    """Other rows of a video that is trained on, of the same settings and as many."""
    video = str(store.labels("train").video[0])
    there = store.features("rgb", video)
    rows = there.read() + np.float16(1)
    store.remove(f"features/rgb/{video}")
    store.write_features("rgb", video, rows, start_s=there.start_s)


def of_another_video(store: Store) -> None:
    """The same times and classes, of videos whose names were exchanged."""
    targets = store.targets("oracle")
    store.remove("targets/oracle")
    splits = {split: store.labels(split) for split in SPLITS}
    names = np.unique(splits["train"].video)
    other = dict(zip(names, np.roll(names, 1), strict=True))
    video = np.array([other[name] for name in splits["train"].video])
    put_again(store, splits | {"train": replace(splits["train"], video=video)})
    store.write_targets("oracle", targets)


def retaught(store: Store) -> None:
    other = oracle_targets(store.labels("train"))
    store.write_targets("oracle", replace(other, logits=2 * other.logits), overwrite=True)


CHANGES: dict[str, tuple[Callable[[Store], None], str]] = {
    "gap": (lambda s: relabelled(s, gap_s=0.5), r"another gap_s \(0.5, not 1.0\) than when this"),
    "times": (lambda s: relabelled(s, moved_s=0.5), "other training and validation windows"),
    "classes": (renamed, "other classes than when this member was trained"),
    "targets": (retaught, "other soft targets than when this member was trained"),
    "rows": (extracted_again, "other features, videos or labels of frames in training windows"),
    "videos": (of_another_video, "other features, videos or labels of frames in training windows"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["nothing left", "one left"])
def test_a_member_trained_on_something_else_is_refused(
    make_store: MakeStore,
    small: StudentConfig,
    tmp_path: Path,
    change: str,
    seeds: tuple[int, ...],
) -> None:
    store, runs = make_store(), tmp_path / "runs"
    config = small.replace(epochs=1, targets=("oracle",))
    sweep(store, runs, Sweep(settings={"a": config}, seeds=(0,)))
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    alter, words = CHANGES[change]
    alter(store)

    def never(*_: object) -> dict[str, str]:
        raise AssertionError("nothing is trained, here or on a cluster")

    plan = Sweep(settings={"a": config}, seeds=seeds)
    with pytest.raises(FingerprintMismatch, match=words) as caught:
        sweep(Store.open(store.path), runs, plan, training=never)
    assert str(caught.value).startswith(f"{runs}/a/seed-0: the store holds ")
    assert "choose another folder for this sweep" in str(caught.value)
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


def test_other_weights_of_an_ensemble_are_told(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, runs = make_store(), tmp_path / "runs"
    soft = oracle_targets(store.labels("train"))
    store.write_targets("second", soft)

    def weighed(*weights: float) -> None:
        about = {**soft.attributes, "members": ["oracle", "second"], "weights": weights}
        store.write_targets("joint", replace(soft, attributes=about), overwrite=True)

    weighed(0.25, 0.75)
    config = small.replace(epochs=1, targets=("oracle", "second"), target_weights="joint")
    plan = Sweep(settings={"a": config}, seeds=(0,))
    table, _ = sweep(store, runs, plan)
    assert sweep(store, runs, plan)[0] == table
    weighed(0.75, 0.25)
    with pytest.raises(FingerprintMismatch, match="the store holds other weights of the ensemble"):
        sweep(store, runs, plan)


def test_rows_of_videos_that_no_window_looks_at_change_nothing(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, runs = make_store(), tmp_path / "runs"
    plan = Sweep(settings={"a": small.replace(epochs=1)}, seeds=(0,))
    table, _ = sweep(store, runs, plan)
    store.write_features("rgb", "of nobody", np.zeros((4, DIM), np.float16))
    assert sweep(store, runs, plan)[0] == table


def test_times_that_move_no_row_change_nothing_for_who_learns_of_no_frames(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, runs = make_store(), tmp_path / "runs"
    plain = small.replace(epochs=1)
    table, _ = sweep(store, runs, Sweep(settings={"a": plain}, seeds=(0,)))
    past = Sweep(settings={"a": plain.replace(past_weight=0.1)}, seeds=(0,))
    sweep(store, tmp_path / "past", past)
    relabelled(store, moved_s=0.01)
    assert sweep(store, runs, Sweep(settings={"a": plain}, seeds=(0,)))[0] == table
    with pytest.raises(FingerprintMismatch, match="labels of frames in training"):
        sweep(store, tmp_path / "past", past)


def test_the_command_ends_with_2(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, plan, runs = make_store(), tmp_path / "plan.yaml", tmp_path / "runs"
    base = {k: small.values[k] for k in ("layers", "heads", "width", "batch_size", "device")}
    plan.write_text(
        json.dumps({"base": {**base, "epochs": 1}, "seeds": [0], "settings": {"a": {}}})
    )
    command = ["student", "sweep", str(store.path), str(plan), "--runs", str(runs)]
    assert CliRunner().invoke(cli, command).exit_code == 0
    relabelled(store, gap_s=0.5)
    said = CliRunner().invoke(cli, command)
    assert (said.exit_code, said.stdout, said.stderr.count("\n")) == (2, "", 1)
    assert "another gap_s (0.5, not 1.0)" in said.stderr


def test_targets_that_are_gone_are_missed(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, runs = make_store(), tmp_path / "runs"
    plan = Sweep(settings={"a": small.replace(epochs=1, targets=("oracle",))}, seeds=(0,))
    sweep(store, runs, plan)
    store.remove("targets/oracle")
    with pytest.raises(MissingKey, match="no set of soft targets 'oracle'"):
        sweep(store, runs, plan)


def test_one_that_is_half_done_is_refused_before_others_are_trained(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, runs = make_store(), tmp_path / "runs"
    plan = Sweep(settings={"a": small}, seeds=(0, 1), at_once=2)
    with stopped_in_step(6):  # of the second epoch
        sweep(store, runs, replace(plan, seeds=(1,)))
    relabelled(store, moved_s=0.5)
    with pytest.raises(FingerprintMismatch, match="seed-1: the store holds other training"):
        sweep(store, runs, plan)
    assert not (runs / "a/seed-0").exists()


def test_one_without_a_checkpoint_begins_again(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, runs = make_store(), tmp_path / "runs"
    plan = Sweep(settings={"a": small.replace(epochs=1)}, seeds=(0,))
    with stopped_in_step(0):
        sweep(store, runs, plan)
    assert (runs / "a/seed-0/config.json").exists()
    relabelled(store, moved_s=0.5)
    table, _ = sweep(store, runs, plan)
    assert table.cells["a"]["action/top1"].n == 1
    assert sweep(store, runs, plan)[0] == table


def test_members_of_earlier_versions_are_asked_for_what_they_kept(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, runs = make_store(), tmp_path / "runs"
    plan = Sweep(settings={"a": small.replace(epochs=1, targets=("oracle",))}, seeds=(0,))
    table, _ = sweep(store, runs, plan)
    file = runs / "a/seed-0/config.json"
    account: dict[str, Any] = json.loads(file.read_text())
    fingerprints = ["taxonomy", "stream fingerprint", "train windows", "validation windows"]
    fingerprints += ["train contents", "validation contents"]
    for name in [*fingerprints, "soft targets", "classes", "shape", "stream"]:
        del account[name]
    del account["protocol"]["anchor"]
    file.write_text(json.dumps(account))
    assert sweep(store, runs, plan)[0] == table
    del account["protocol"]
    file.write_text(json.dumps(account))
    assert sweep(store, runs, plan)[0] == table


def test_what_came_to_the_store_beside_it_changes_nothing(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    """A second stream, more soft targets, and soft targets that the member never learned from."""
    store, runs = make_store(), tmp_path / "runs"
    plan = Sweep(settings={"a": small.replace(epochs=1)}, seeds=(0,))
    table, _ = sweep(store, runs, plan)
    store.create_stream("flow", dim=DIM, dtype="float16", fps=FPS, source="made up", config={})
    store.write_features("flow", "v0", np.zeros((4, DIM), np.float16))
    store.write_targets("another", oracle_targets(store.labels("train")))
    retaught(store)
    assert sweep(store, runs, plan)[0] == table
