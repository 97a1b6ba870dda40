"""`antcache teacher score`: what it prints for teachers and stored targets, and how it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.annotations import Segments, read_annotations
from antcache.cli.main import cli
from antcache.evaluation import Predictions, score_targets
from antcache.evaluation.calibration import calibration, fit_temperature
from antcache.evaluation.metrics import score
from antcache.store import Store
from antcache.teacher.base import load_teacher, make_teacher, save_teacher
from antcache.teacher.histories import MODES, HistoryConfig, Timeline
from antcache.teacher.scoring import ScoreConfig, score_teacher
from antcache.teacher.targets import TargetConfig, make_targets
from antcache.teacher.teach import teach

FEW = ("--bootstrap", 50)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, splits, taxonomy):
    """A store with labels, a count teacher, and its targets: cross-fitted, in-sample and top-3."""
    folder = tmp_path_factory.mktemp("scored")
    store = Store.create(folder / "kitchen")
    for split, segments in splits.items():
        store.write_labels(split, segments, taxonomy, source="test")
    targets = teach(store, "count", TargetConfig(folds=4), folder / "teacher")
    store.write_targets("three", targets.top_k(3))
    teach(store, "in-sample", TargetConfig(folds=0), folder / "again")
    return folder


@pytest.fixture
def store(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return Store.open(folder / "kitchen")


def run(*words, code=0):
    words = ["teacher", "score", *map(str, words)]
    result = CliRunner().invoke(cli, words, env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


def refused(*words):
    result = run(*words, code=2)
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def one(*words):
    (found,) = json.loads(run(*words, "--json").stdout)
    return found


def test_stored_targets_are_scored_as_evaluate_does(store):
    found = one("kitchen", "count", *FEW)
    assert (found["name"], found["split"]) == ("targets/count", "validation")
    sheet = found["sheets"]["as stored"]
    assert sheet["counted"]["all"]["metrics"] == score_targets(store, "count", "validation").all
    assert set(sheet["counted"]) == {"all", "rulstm", "avt"}
    # Segment 0 of each of the three videos starts at 0 s: nothing is to be seen.
    assert sheet["counted"]["avt"]["n"] == sheet["counted"]["rulstm"]["n"] == 33
    for name, interval in sheet["counted"]["all"]["intervals"].items():
        assert interval["low"] <= interval["value"] <= interval["high"], name
    assert [point["k"] for point in sheet["coverage"]] == [1, 2, 5, 10, 12]
    assert found["imperfect"] == []


def test_cross_fitted_targets_give_the_temperature(store, splits):
    found = one("kitchen", "count", *FEW)
    targets = store.targets("count")

    def logits(split):
        return targets.logits[targets.rows_for(splits[split].uid)], splits[split].action

    temperature = fit_temperature(*logits("train"))
    fitted = found["temperature"]["as stored"]
    assert fitted["fitted_on"] == "train"
    assert fitted["value"] == pytest.approx(temperature)
    after = calibration(*logits("validation"), temperature)
    assert fitted["after"]["nll"] == pytest.approx(after.nll)
    assert found["notes"] == []


def test_nothing_is_fitted_in_sample(store):
    found = one("kitchen", "in-sample", *FEW)
    assert found["temperature"] == {"as stored": None}
    (note,) = found["notes"]
    assert "no split is held out" in note
    assert "--held-out validation" in note
    for name in ("in-sample", "teacher"):
        error = refused("kitchen", name, "--held-out", "train")
        assert "trained on it" in error
    assert "no split 'test'" in refused("kitchen", "count", "--held-out", "test")


def test_held_out_on_the_scored_split_takes_other_videos(store):
    found = one("kitchen", "in-sample", "--held-out", "validation", *FEW)
    fitted = found["temperature"]["as stored"]
    assert fitted["fitted_on"] == "other videos of validation"
    again = one("kitchen", "in-sample", "--held-out", "validation", *FEW)
    assert again == found


def test_the_temperature_of_a_trained_teacher_is_that_of_another_split(store, splits, taxonomy):
    """Found on the split that is named, with the teacher asked there with the same history."""
    columns = splits["validation"][np.arange(12)].arrays()
    more = {"uid": [f"m{i}" for i in range(12)], "video": ["m"] * 12, "action": [0] * 12}
    more |= {"verb": [0] * 12, "noun": [0] * 12}
    held = Segments.of(**{**columns, **more})
    store.write_labels("more", held, taxonomy, source="test")
    try:
        words = ["--histories", "complete", "--held-out", "more", *FEW]
        found = one("kitchen", "teacher", *words)
    finally:
        store.remove("labels/more")
    teacher, _ = load_teacher(store.path.parent / "teacher", taxonomy)
    examples = Timeline.of({"more": held}, taxonomy).examples(HistoryConfig(), 20)
    fitted = found["temperature"]["complete"]
    assert fitted["fitted_on"] == "more"
    expected = fit_temperature(teacher.predict(examples).logits, held.action)
    assert fitted["value"] == pytest.approx(expected, rel=1e-6)


def test_histories_of_which_nothing_was_recognised(store, splits, taxonomy, tmp_path):
    """Only each video's last segment is, and that is nobody's past: all absent, none wrong."""
    segments = splits["validation"]
    last = [i for i, v in enumerate(segments.video[:-1]) if v != segments.video[i + 1]]
    scores = np.zeros((len(last) + 1, len(taxonomy.actions)), np.float32)
    uid = segments.uid[[*last, len(segments) - 1]]
    Predictions(uid=uid, scores=scores, split="validation", taxonomy=taxonomy.fingerprint).save(
        tmp_path / "p"
    )
    words = ["--histories", "complete", "--recognized", tmp_path / "p", "--bootstrap", 0]
    _, found = one("kitchen", "teacher", *words)["imperfect"]
    assert (found["wrong"], found["absent"]) == (0, 100)


def test_targets_for_no_segment_of_the_split(store):
    other = Segments.of(
        uid=["x"], video=["z"], start_s=[1], stop_s=[2], verb=[0], noun=[0], action=[0]
    )
    store.write_labels("nobody", other, store.taxonomy, source="test")
    try:
        line = refused("kitchen", "count", "--split", "nobody")
    finally:
        store.remove("labels/nobody")
    assert "targets/count: no soft target for any segment of 'nobody'" in line


def test_top_k_targets_end_their_coverage(store):
    found = one("kitchen", "three", *FEW)
    sheet = found["sheets"]["as stored"]
    assert [point["k"] for point in sheet["coverage"]] == [1, 2, 3]
    dense = one("kitchen", "count", "--coverage", "1,2,3", *FEW)["sheets"]["as stored"]
    for mine, theirs in zip(sheet["coverage"], dense["coverage"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    assert "3 best classes" in found["notes"][0]


def test_a_teacher_is_asked_with_every_history(store, timeline, splits, taxonomy):
    found = one("kitchen", "teacher", "--gap", 3, *FEW)
    assert list(found["sheets"]) == list(MODES)
    teacher, _ = make_targets(timeline, TargetConfig(folds=0))
    mine = timeline.split == "validation"
    for mode in MODES:
        examples = timeline.examples(HistoryConfig(mode=mode, gap_s=3.0), teacher.config.length)
        expected = score(teacher.predict(examples[mine]).logits, splits["validation"], taxonomy)
        assert found["sheets"][mode]["counted"]["all"]["metrics"] == pytest.approx(expected)
    top5 = {m: found["sheets"][m]["counted"]["all"]["metrics"]["action/top5"] for m in MODES}
    assert top5["observed"] < top5["complete"]  # 3 s before, the last action had not begun
    assert list(one("kitchen", "teacher", "--histories", "observed", *FEW)["sheets"]) == [
        "observed"
    ]


def test_a_teacher_is_asked_at_an_anchor(store, timeline, splits, taxonomy):
    words = ("--histories", "observed", "--gap", 3, *FEW)
    late = one("kitchen", "teacher", "--anchor", "end", *words)
    teacher, _ = make_targets(timeline, TargetConfig(folds=0))
    history = HistoryConfig(mode="observed", gap_s=3.0, anchor=1.0)
    examples = timeline.examples(history, teacher.config.length)
    logits = teacher.predict(examples[timeline.split == "validation"]).logits
    expected = score(logits, splits["validation"], taxonomy)
    counted = late["sheets"]["observed"]["counted"]
    assert counted["all"]["metrics"] == pytest.approx(expected)
    usual = one("kitchen", "teacher", *words)
    assert (late["anchor"], usual["anchor"]) == ("end", "start")
    assert counted["all"] != usual["sheets"]["observed"]["counted"]["all"]


def test_noise_takes_the_teacher_apart(store):
    words = ["--histories", "complete", "--bootstrap", 0, "--noise", "1,0.3,0"]
    found = one("kitchen", "teacher", *words)
    rows = found["imperfect"]
    assert [(r["labels"], r["rate"]) for r in rows] == [
        ("true", 0.0),
        ("uniform", 0.3),
        ("uniform", 1.0),
        ("confused", 0.3),
        ("confused", 1.0),
    ]
    assert rows[0]["metrics"] == found["sheets"]["complete"]["counted"]["all"]["metrics"]
    assert [r["wrong"] for r in rows][::2] == [0, 100, 100]
    assert 10 < rows[1]["wrong"] < 50
    assert rows[2]["metrics"]["action/top1"] < rows[0]["metrics"]["action/top1"] / 2
    assert one("kitchen", "teacher", *words) == found
    other = one("kitchen", "teacher", *words, "--seed", 1)
    assert other["imperfect"][1] != rows[1]
    assert other["imperfect"][0] == rows[0]


def test_recognised_histories(store, splits, taxonomy, tmp_path):
    truth = splits["validation"]
    scores = np.eye(12, dtype=np.float32)[truth.action]
    right = Predictions(
        uid=truth.uid, scores=scores, split="validation", taxonomy=taxonomy.fingerprint
    )
    right.save(tmp_path / "right")
    half = np.arange(len(truth)) % 2 == 0
    replace(right, uid=truth.uid[half], scores=scores[half]).save(tmp_path / "half")
    words = ["kitchen", "teacher", "--histories", "complete", "--bootstrap", 0, "--recognized"]
    true, same = one(*words, tmp_path / "right")["imperfect"]
    assert (same["labels"], same["wrong"], same["absent"]) == ("recognized", 0, 0)
    assert same["metrics"] == true["metrics"]
    _, less = one(*words, tmp_path / "half")["imperfect"]
    assert less["wrong"] == 0
    assert 40 < less["absent"] < 60
    assert less["metrics"] != true["metrics"]
    assert "no predictions here" in refused(*words, tmp_path / "none")
    replace(right, taxonomy="0" * 32).save(tmp_path / "alien")
    assert "another taxonomy" in refused(*words, tmp_path / "alien")
    error = refused(*words, tmp_path / "right", "--recognized", tmp_path / "half")
    assert "same segment" in error


def test_tables(store):
    output = run("kitchen", "count", *FEW).stdout
    output += run("kitchen", "teacher", "--noise", "0.2", *FEW).stdout
    for words in (
        "targets/count, as stored, anchor start: percent, 95% intervals by video",
        "all 36",
        "RULSTM, AVT 33",
        "action/many_shot_recall@5",
        "targets/count: calibration",
        "teacher, observed, anchor start: the truth among the k best classes",
        "confused 0.2",
        "teacher: no temperature",
    ):
        assert words in output
    plain = run("kitchen", "count", "--bootstrap", 0).stdout
    assert "intervals" not in plain


def test_segments_without_a_target_count_as_wrong(store, tmp_path):
    targets = store.targets("count")
    valid = targets.valid.copy()
    valid[targets.rows_for(store.labels("validation").uid)[:6]] = False
    store.write_targets("gaps", replace(targets, valid=valid), overwrite=True)
    result = score_teacher(store, "gaps", ScoreConfig())
    everything = result.sheets["as stored"].counted["all"]
    assert (everything.n, everything.unpredicted) == (36, 6)
    assert everything.metrics == score_targets(store, "gaps", "validation").all
    assert result.sheets["as stored"].calibration.n == 30
    store.remove("targets/gaps")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent"], "neither soft targets of the store nor the folder of a teacher"),
        (["count", "--split", "test"], "no split 'test'"),
        (["count", "--bootstrap", 1], "0, or 2 and more"),
        (["count", "--cluster", "kitchen"], "is not one of 'video', 'segment'"),
        (["count", "--coverage", "0"], "impossible --coverage"),
        (["count", "--coverage", "a"], "impossible --coverage"),
        (["count", "--coverage", ""], "impossible --coverage"),
        (
            ["teacher", "--histories", "future"],
            "'future' is not one of 'complete', 'observed', 'gappy'",
        ),
        (["teacher", "--gap", -1], "impossible --gap"),
        (["teacher", "--noise", "1.5"], "impossible --noise"),
        (["teacher", "--noise", "some"], "impossible --noise"),
        (["teacher", "--device", "cuda"], "runs on the CPU"),
        (["count", "--noise", "0.1"], "need the teacher itself"),
        (["count", "--recognized", "x"], "need the teacher itself"),
    ],
)
def test_bad_input_ends_with_one_line(store, words, message):
    assert message in refused("kitchen", *words)


def test_a_split_of_one_video(tmp_path, make_segments, taxonomy, timeline):
    store = Store.create(tmp_path / "one")
    store.write_labels("validation", make_segments("v", [2, 4], [0, 3]), taxonomy, source="test")
    teacher, _ = make_targets(timeline, TargetConfig(folds=0))
    save_teacher(teacher, HistoryConfig(), tmp_path / "teacher")
    words = [tmp_path / "one", tmp_path / "teacher"]
    assert "number of groups to draw: expected from 2" in refused(*words)
    assert json.loads(run(*words, "--bootstrap", 0, "--json").stdout)
    assert json.loads(run(*words, "--cluster", "segment", "--json").stdout)


def test_real_labels(data_dir, tmp_path):
    """A count teacher without its fitted mixture, on EPIC-KITCHENS-55, every figure but noise."""
    dataset = read_annotations("epic-kitchens-55", data_dir / "epic-kitchens-55")
    store = Store.create(tmp_path / "epic")
    for split, segments in dataset.splits.items():
        store.write_labels(split, segments, dataset.taxonomy, source="RULSTM")
    teacher = make_teacher("count", dataset.taxonomy, {"folds": 0, "order": 2})
    timeline = Timeline.of(dataset.splits, dataset.taxonomy)
    train = timeline.split == "train"
    teacher.fit(timeline.examples(HistoryConfig(), teacher.config.length)[train])
    save_teacher(teacher, HistoryConfig(), tmp_path / "count")
    result = score_teacher(store, str(tmp_path / "count"), ScoreConfig(histories=("complete",)))
    complete = result.sheets["complete"]
    assert {k: c.n for k, c in complete.counted.items()} == {
        "all": 4979,
        "rulstm": 4972,
        "avt": 4969,
    }
    for part in complete.counted.values():
        for name, interval in part.intervals.items():
            assert interval.low <= interval.value <= interval.high, name
    top5 = complete.counted["all"].metrics["action/top5"]
    assert 38 < top5 < 50
    at_five = next(point for point in complete.coverage if point.k == 5)
    assert at_five.recall == top5
    assert complete.coverage[-1].recall > 75
