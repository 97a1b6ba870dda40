"""`antcache teacher`: what it writes and prints, and how it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.store import Store
from antcache.teacher.counting.teacher import CountTeacher
from antcache.teacher.histories import HistoryConfig
from antcache.teacher.targets import TargetConfig, make_targets


@pytest.fixture
def store(tmp_path, splits, taxonomy, monkeypatch, shelf):
    """A store with labels, in the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(path):
        made = Store.create(path)
        for split, segments in splits.items():
            made.write_labels(split, segments, taxonomy, source="test")

    return shelf.store(tmp_path / "kitchen", "labels of a kitchen", write)


def run(*words, code=0):
    result = CliRunner().invoke(cli, ["teacher", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def refused(*words):
    """The one line that a command ends with."""
    result = run(*words, code=2)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_train_writes_the_teacher_the_targets_and_a_log(store, timeline):
    facts = json.loads(run("train", "kitchen", "--name", "count", "--folds", 4, "--json").stdout)
    assert facts["teacher"] == str(Path("kitchen.teachers/count").absolute())
    assert (facts["kind"], facts["history"], facts["folds"]) == ("count", "complete", 4)
    assert facts["segments"] == facts["valid"] == len(timeline.segments)
    assert set(facts["metrics"]) == {"train", "validation"}
    assert facts["metrics"]["validation"]["action/top5"] > 50
    assert Path("kitchen.teachers/count/teacher.json").is_file()
    assert "mixture" in Path("kitchen.log").read_text()
    # The command gives what the library gives.
    stored = store.targets("count")
    _, expected = make_targets(timeline, TargetConfig(folds=4))
    by_uid = stored.rows_for(timeline.segments.uid)
    np.testing.assert_array_equal(stored.logits[by_uid], expected.logits)
    assert stored.attributes["taxonomy"] == store.taxonomy.fingerprint


def test_the_table_names_splits_and_settings(store):
    output = run("train", "kitchen", "--name", "t", "--folds", 0, "--history", "observed").stdout
    assert "observed history" in output
    assert "in-sample" in output
    assert "validation" in output


def test_sequence_with_scripts_epochs_and_top_k(store):
    Path("scripts.txt").write_text("take_pan, put_pan\ntake_cup, put_cup\n")
    words = ["--kind", "sequence", "--epochs", 1, "--folds", 0, "--scripts", "scripts.txt"]
    facts = json.loads(
        run("train", "kitchen", "--name", "s", *words, "--top-k", 3, "--json").stdout
    )
    assert facts["config"]["epochs"] == 1
    assert facts["scripts"] == 2
    stored = store.targets("s")
    assert stored.logits is None
    assert stored.index.shape[1] == 3
    assert "epoch 1 of 1" in Path("kitchen.log").read_text()


def test_language_with_a_model_and_settings(store, language_models):
    pytest.importorskip("transformers")
    words = ["--kind", "language", "--model", language_models("bert"), "--epochs", 1]
    words += ["--set", "attended=2", "--set", "memory=false", "--set", "held_out=0"]
    facts = json.loads(run("train", "kitchen", "--name", "lm", *words, "--json").stdout)
    config = facts["config"]
    assert (config["attended"], config["memory"], config["held_out"]) == (2, False, 0.0)
    assert (config["model"], config["epochs"]) == (str(language_models("bert")), 1)
    assert Path("kitchen.teachers/lm/model/tokenizer.json").is_file()
    run("predict", "kitchen", "kitchen.teachers/lm", "--name", "again")
    np.testing.assert_array_equal(store.targets("again").logits, store.targets("lm").logits)


def test_named_options_win_over_set(store):
    words = ["--seed", 4, "--set", "seed=3", "--set", "order=2", "--folds", 0]
    facts = json.loads(run("train", "kitchen", "--name", "x", *words, "--json").stdout)
    assert (facts["config"]["seed"], facts["config"]["order"]) == (4, 2)


def test_predict_gives_the_trained_teachers_targets(store):
    run("train", "kitchen", "--name", "first", "--folds", 0, "--output", "mine")
    facts = json.loads(run("predict", "kitchen", "mine", "--name", "again", "--json").stdout)
    assert facts["folds"] == 0
    first, again = store.targets("first"), store.targets("again")
    np.testing.assert_array_equal(first.logits, again.logits)


def test_observed_histories_take_the_gap_of_the_dataset_or_the_given_one(store, timeline):
    run("train", "kitchen", "--name", "own", "--history", "observed", "--gap", 2.5)
    assert store.targets("own").attributes["gap_s"] == 2.5
    config = TargetConfig(history=HistoryConfig(mode="observed", gap_s=2.5))
    _, expected = make_targets(timeline, config)
    rows = store.targets("own").rows_for(timeline.segments.uid)
    np.testing.assert_array_equal(store.targets("own").logits[rows], expected.logits)


def test_targets_say_the_anchor_of_their_histories(store, timeline):
    words = ("train", "kitchen", "--history", "observed", "--gap", 2.5, "--folds", 0)
    run(*words, "--name", "late", "--anchor", "end")
    run(*words, "--name", "usual")
    assert store.targets("late").attributes["anchor"] == 1
    assert "anchor" not in store.targets("usual").attributes
    _, expected = make_targets(
        timeline,
        TargetConfig(history=HistoryConfig(mode="observed", gap_s=2.5, anchor=1.0), folds=0),
    )
    rows = store.targets("late").rows_for(timeline.segments.uid)
    np.testing.assert_array_equal(store.targets("late").logits[rows], expected.logits)
    assert (store.targets("late").logits != store.targets("usual").logits).any()
    run("predict", "kitchen", "kitchen.teachers/late", "--name", "again")
    assert store.targets("again").attributes["anchor"] == 1
    refused = CliRunner().invoke(
        cli, ["teacher", "ensemble", "kitchen", "late", "usual", "--name", "x", "--mixed-histories"]
    )
    assert refused.exit_code == 2
    assert "the members have different anchors: found late end, usual start" in refused.stderr
    joint = CliRunner().invoke(
        cli, ["teacher", "ensemble", "kitchen", "late", "again", "--name", "both", "--mix", "mean"]
    )
    assert joint.exit_code == 0, joint.output
    assert store.targets("both").attributes["anchor"] == 1


def test_targets_say_which_stretches_of_video_they_are_of(store, timeline):
    run("train", "kitchen", "--name", "count", "--folds", 0)
    run("predict", "kitchen", "kitchen.teachers/count", "--name", "again", "--top-k", 2)
    run("ensemble", "kitchen", "count", "again", "--name", "joint", "--mix", "mean", code=2)
    run("train", "kitchen", "--name", "short", "--folds", 0, "--set", "order=1")
    run("ensemble", "kitchen", "count", "short", "--name", "joint", "--mix", "mean")
    moments = timeline.segments.moments()
    for name in ("count", "again", "joint"):
        stored = store.targets(name)
        np.testing.assert_array_equal(
            stored.moment[stored.rows_for(timeline.segments.uid)], moments
        )


def test_labels_that_are_replaced_while_a_teacher_is_trained_are_told(
    store, splits, taxonomy, monkeypatch
):
    """The teacher stays, and says what it expects of the labels that are there by then."""
    fit = CountTeacher.fit
    later = {name: replace(own, start_s=own.start_s + 0.25) for name, own in splits.items()}

    def meanwhile(self, *words, **options):
        store.write_splits(later, taxonomy, source="corrected", overwrite=True)
        return fit(self, *words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(CountTeacher, "fit", meanwhile)
        said = refused("train", "kitchen", "--name", "count", "--folds", 0)
    assert "targets/count: soft targets for other segments of these uids" in said
    assert "teacher predict" in said
    assert store.target_names() == []
    run("predict", "kitchen", "kitchen.teachers/count", "--name", "count")
    stored, own = store.targets("count"), later["train"]
    np.testing.assert_array_equal(stored.moment[stored.rows_for(own.uid)], own.moments())


def test_a_store_whose_labels_were_removed(store):
    run("train", "kitchen", "--name", "count", "--folds", 0)
    store.remove("labels/train", "labels/validation", "targets/count")
    there = "kitchen.teachers/count"
    for words in (
        ("train", "kitchen", "--name", "again"),
        ("predict", "kitchen", there, "--name", "again"),
    ):
        assert "the store has no labels" in refused(*words)


def test_existing_outputs_are_refused_before_any_work(store):
    run("train", "kitchen", "--name", "one", "--folds", 0)
    before = store.targets("one").logits
    assert "already" in refused("train", "kitchen", "--name", "one", "--output", "elsewhere")
    assert not Path("elsewhere").exists()
    there = "kitchen.teachers/one"
    assert "already" in refused("train", "kitchen", "--name", "two", "--output", there)
    assert store.target_names() == ["one"]
    np.testing.assert_array_equal(store.targets("one").logits, before)
    run("train", "kitchen", "--name", "one", "--folds", 2, "--overwrite")
    assert store.targets("one").attributes["folds"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--kind", "oracle"], "'oracle' is not one of 'count', 'sequence', 'language'"),
        (["--history", "future"], "'future' is not one of 'complete', 'observed', 'gappy'"),
        (["--gap", -1], "impossible --gap"),
        (["--folds", 1], "folds"),
        (["--folds", 99], "8 groups: impossible number of folds: expected from 2 to 8, found 99"),
        (["--epochs", 3], "unknown settings of the count teacher: expected length"),
        (["--model", "x"], "unknown settings of the count teacher: found model"),
        (["--set", "order=four"], "order: wrong type: expected int, found 'four'"),
        (["--set", "layers=2"], "unknown settings of the count teacher"),
        (["--set", "order"], "a setting without a value"),
        (["--kind", "language", "--model", "./none"], "./none: no such folder"),
        (["--device", "cuda"], "runs on the CPU"),
        (["--kind", "sequence", "--device", "abacus"], "no such device"),
        (["--scripts", "none.txt"], "none.txt: no script file here"),
        (["--scripts", "bad.txt"], "bad.txt:2: unknown action"),
        (["--top-k", 0], "impossible --top-k"),
        (["--top-k", 13], "impossible top-k"),
        (["--train-split", "training"], "no segments in the training split 'training'"),
        (["--output", "."], "not a teacher"),
    ],
)
def test_bad_settings_end_with_one_line_and_write_nothing(store, options, words):
    Path("bad.txt").write_text("take_pan\nfry_egg\n")
    assert words in refused("train", "kitchen", "--name", "x", *options)
    assert store.target_names() == []
    assert not Path("kitchen.teachers").exists()


def test_wrong_paths_and_missing_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no store here" in refused("train", "nowhere", "--name", "x")
    Path("file").write_text("")
    assert "not an antcache store" in refused("train", "file", "--name", "x")
    Store.create("empty")
    assert "no labels" in refused("train", "empty", "--name", "x")
    assert "no labels" in refused("predict", "empty", "kitchen.teachers/x", "--name", "x")
    assert not Path("nowhere.log").exists()


def test_broken_teacher_folders(store):
    run("train", "kitchen", "--name", "one", "--folds", 0)
    assert "no teacher here" in refused("predict", "kitchen", "nowhere", "--name", "x")
    folder = Path("kitchen.teachers/one")
    path = folder / "teacher.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert "can't be read" in refused("predict", "kitchen", folder, "--name", "x")
    (folder / "teacher.json").write_text("{}")
    assert "settings can't be read" in refused("predict", "kitchen", folder, "--name", "x")
    assert store.target_names() == ["one"]
