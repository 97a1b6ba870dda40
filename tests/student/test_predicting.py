"""A trained student asked again: the same scores, other segments, streaming, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import BadCheckpoint, BadConfig, FingerprintMismatch, MissingKey, NotFound
from antcache.evaluation import Predictions, score
from antcache.evaluation.online import OnlineClock, evaluate_online
from antcache.student.runs.predicting import TrainedStudent
from antcache.student.runs.train import train


@pytest.fixture
def trained(make_run, small):
    return make_run(small.replace(verb_noun_weight=0.5, ema=0.5))


def test_it_predicts_what_the_run_reports(trained):
    store, run, result = trained
    found = TrainedStudent(store, run).predict(store.labels("validation"), split="validation")
    np.testing.assert_array_equal(found.uid, result.predictions.uid)
    for name in ("scores", "verb_scores", "noun_scores"):
        expected, own = getattr(result.predictions, name), getattr(found, name)
        np.testing.assert_allclose(own, expected, atol=1e-5)
    assert found.taxonomy == store.taxonomy.fingerprint


@pytest.mark.parametrize("verb_noun_weight", [0.0, 1.0])
def test_a_probe_predicts_what_its_run_reports(make_store, small, tmp_path, verb_noun_weight):
    """With queries for verb and noun of its own, and without."""
    store, run = make_store(), tmp_path / "run"
    config = small.replace(head="probe", width=None, dropout=None, loss="focal")
    expected = train(store, run, config.replace(verb_noun_weight=verb_noun_weight)).predictions
    found = TrainedStudent(store, run).predict(store.labels("validation"), split="validation")
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert (found.verb_noun_scores is None) == (verb_noun_weight == 0)
    if verb_noun_weight:
        np.testing.assert_allclose(found.verb_scores, expected.verb_scores, atol=1e-5)
        np.testing.assert_allclose(found.noun_scores, expected.noun_scores, atol=1e-5)


def test_an_aligned_student_predicts_too(make_store, small, tmp_path):
    """Its projection to the teacher's feature is a part of its weights."""
    store = make_store()
    oracle = store.targets("oracle")
    feature = np.random.default_rng(0).standard_normal((len(oracle.uid), 5)).astype(np.float32)
    store.write_targets("featured", replace(oracle, feature=feature))
    config = small.replace(targets=("featured",), align="cosine")
    expected = train(store, tmp_path / "run", config).predictions
    segments, run = store.labels("validation"), tmp_path / "run"
    found = TrainedStudent(store, run).predict(segments, split="validation")
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    account = json.loads((run / "config.json").read_text())
    assert account["shape"]["teacher_dims"] == [5]
    assert account["shape"].pop("tokens") == 1
    shutil.copytree(run, tmp_path / "before tokens")
    (tmp_path / "before tokens/config.json").write_text(json.dumps(account))
    older = TrainedStudent(store, tmp_path / "before tokens").predict(segments, split="validation")
    np.testing.assert_array_equal(older.scores, found.scores)
    shutil.copytree(run, tmp_path / "older")
    del account["shape"]
    (tmp_path / "older/config.json").write_text(json.dumps(account))
    older = TrainedStudent(store, tmp_path / "older").predict(segments, split="validation")
    np.testing.assert_array_equal(older.scores, found.scores)
    store.remove("targets/featured")  # the model does not need it any more
    again = TrainedStudent(store, run).predict(segments, split="validation")
    np.testing.assert_array_equal(again.scores, found.scores)
    with pytest.raises(MissingKey, match="featured"):
        TrainedStudent(store, tmp_path / "older")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_classes": 7}, "not of the shape of what it was trained on"),
        ({"dims": [12, 12]}, "not of the shape of what it was trained on"),
        ({"num_teachers": 1}, "not of the shape of what it was trained on"),
        ({"tokens": 2}, "not of the shape of what it was trained on"),
        ({"tokens": [2]}, r"tokens of a shape: \[2\]"),
        ({"teacher_dims": [10**9]}, "teacher_dims of a shape: .1000000000.$"),
        ({"teacher_dims": 5}, "teacher_dims of a shape: 5"),
        ({"dims": ["12"]}, "dims of a shape: .'12'."),
        ({"num_verbs": True}, "num_verbs of a shape: True"),
        ({"num_nouns": -1}, "num_nouns of a shape: -1"),
        ({"depth": 3}, "not the fields of a shape: .*depth"),
        ({"dims": None}, "dims of a shape: None"),
    ],
)
def test_a_shape_that_can_not_be_is_refused(trained, changes, words):
    """A run may come from anybody: its account is believed where it fits its weights."""
    store, run, _ = trained
    file = run / "config.json"
    account = json.loads(file.read_text())
    file.write_text(json.dumps({**account, "shape": {**account["shape"], **changes}}))
    with pytest.raises(BadCheckpoint, match=words):
        TrainedStudent(store, run)


def test_segments_of_which_none_can_be_seen(trained):
    store, run, _ = trained
    first = store.labels("validation")
    early = first[first.start_s == 0]
    with pytest.raises(BadConfig, match="split validation: no segment has a window"):
        TrainedStudent(store, run).predict(early, split="validation")


@pytest.mark.parametrize("head", ["light", "gru", "avth"])
def test_it_predicts_the_same_bits_in_bfloat16(make_store, small, tmp_path, head):
    """Linear layers are cast once and not in every call."""
    store = make_store()
    config = small.replace(head=head, precision="bfloat16", verb_noun_weight=0.5)
    if head == "gru":
        config = config.replace(heads=None)
    expected = train(store, tmp_path / "run", config).predictions
    student = TrainedStudent(store, tmp_path / "run")
    assert student.predictor.student.head.classifier.weight.dtype == torch.bfloat16
    found = student.predict(store.labels("validation"), split="validation")
    for name in ("scores", "verb_scores", "noun_scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_streaming_with_and_without_runtime(trained):
    store, run, _ = trained
    student, segments = TrainedStudent(store, run), store.labels("validation")

    def at(**clock):
        return evaluate_online(
            segments,
            store.taxonomy,
            student.protocol.gap_s,
            OnlineClock(**clock),
            lambda asked: student.predict(asked, split="validation"),
        )

    classic = at(latency_s=0)
    direct = student.predict(segments, split="validation")
    np.testing.assert_array_equal(classic.predictions.scores, direct.scores)
    expected = score(
        direct.scores,
        segments,
        store.taxonomy,
        rows=segments.locate(direct.uid),
        verb_noun_scores=direct.verb_noun_scores,
    )
    assert classic.metrics == expected
    # Actions last 3 s: with a whole action of runtime the window shows the one before.
    late = at(latency_s=3.0)
    assert late.not_ready > 0
    assert late.age_s == pytest.approx(3.0)
    assert not np.array_equal(late.predictions.scores, direct.scores[-len(late.predictions.uid) :])


def test_what_a_run_predicts_says_its_anchor(make_store, small, tmp_path):
    """The run, its files, and what it predicts and streams later."""
    store, run = make_store(), tmp_path / "run"
    config = small.replace(anchor=1.0, held_out=0.3)
    result = train(store, run, config)
    segments = store.labels("validation")
    again = TrainedStudent(store, run).predict(segments, split="validation")
    files = [Predictions.load(run), Predictions.load(run / "held_out.safetensors")]
    for found in (result.predictions, result.held_out, again, *files):
        assert found.anchor == 1
    said = json.loads((run / "result.json").read_text())
    assert said["anchor"] == "end"
    assert len(result.predictions) == len(segments)  # the first ones are long enough to be seen
    assert len(train(store, None, small).predictions) < len(segments)
    streamed = run_command("stream", store.path, run, "--latency", 0, "--json")
    (account,) = json.loads(streamed.stdout)
    assert account["anchor"] == "end"
    expected = score(
        again.scores, segments, store.taxonomy, verb_noun_scores=again.verb_noun_scores
    )
    assert account["classic"]["metrics"] == pytest.approx(expected)
    assert account["streaming"]["metrics"] == pytest.approx(expected)


def run_command(*arguments):
    return CliRunner().invoke(cli, ["student", *map(str, arguments)])


def test_commands(trained, tmp_path):
    store, run, _ = trained
    found = run_command("stream", store.path, run, "--stride", 0.25, "--calls", 3, "--json")
    assert found.exit_code == 0, found.output
    (said,) = json.loads(found.stdout)
    assert said["measured"]["calls"] == 3
    assert said["streaming"]["latency_s"] == said["measured"]["median_s"] > 0
    assert said["streaming"]["period_s"] >= 0.25
    assert said["classic"]["n"] == said["streaming"]["n"]
    table = run_command("stream", store.path, run, "--latency", 0.5, "--backbone-latency", 0.25)
    assert table.exit_code == 0, table.output
    assert "750.00 ms a prediction (given)" in table.output

    (tmp_path / "test_seen.csv").write_text("0009, v0, 200, 250\n0010, v1, 2, 250\n")
    arguments = ("predict", store.path, run, "-o", tmp_path / "p")
    found = run_command(*arguments, "--segments", tmp_path / "test_seen.csv")
    assert found.exit_code == 0, found.output
    assert "1 segments; 1 without a window" in found.output
    made = Predictions.load(tmp_path / "p")
    assert (made.uid.tolist(), made.split) == (["9"], "test_seen")
    own = "uid,video,start,stop,verb,noun\n9,day1/v0.mp4,6.7,8,take,pan\n"  # 200 frames are 6.67 s
    (tmp_path / "own.csv").write_text(own)
    more = (*arguments, "--overwrite", "--segments", tmp_path / "own.csv")
    found = run_command(*more)
    assert found.exit_code == 0, found.output
    assert "note: 1 of 1 videos are called as antcache extract calls them" in found.stderr
    same = Predictions.load(tmp_path / "p")
    assert (same.uid.tolist(), same.split) == (["9"], "own")
    np.testing.assert_array_equal(same.scores, made.scores)
    (tmp_path / "own.csv").write_text("uid,video,start,stop\n9,v0,400,500\n")
    assert run_command(*more, "--fps", 60).exit_code == 0
    np.testing.assert_array_equal(Predictions.load(tmp_path / "p").scores, made.scores)
    (tmp_path / "own.csv").write_text("uid,video,start,stop\n9,V-0,4,5\n")
    refused = run_command(*more)
    assert refused.exit_code == 2
    assert "nearest is 'v0', found 'V-0'" in refused.stderr
    found = run_command(*arguments, "--split", "train", "--overwrite", "--json")
    assert json.loads(found.stdout)["segments"] == len(Predictions.load(tmp_path / "p").uid)
    for wrong, words in (
        ((*arguments, "--overwrite"), "which segments"),
        ((*arguments, "--split", "train"), "already here"),
        ((*arguments, "--split", "train", "--overwrite", "--fps", 30), "--fps is for --segments"),
        ((*arguments, "--overwrite", "--split", "absent"), "absent"),
        (("stream", store.path, tmp_path / "absent"), "no run here"),
        (("stream", store.path, run, "--latency", -1), "impossible --latency"),
        (("stream", store.path, run, "--latency", 1, "--stride", 0), "impossible --stride"),
        (("stream", store.path, run, "--calls", 0), "impossible --calls"),
    ):
        outcome = run_command(*wrong)
        assert outcome.exit_code == 2, wrong
        assert words in outcome.stderr
        assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize("listed", [True, False])
def test_one_missing_video_hinders_no_other(trained, tmp_path, listed):
    """Not in the store, or too short: refused with an option of this command, which helps."""
    store, run, _ = trained
    labels = store.labels("validation")
    gone, short = labels.videos[:2]
    store.remove(f"features/rgb/{gone}")
    rows = np.array(store.features("rgb", short).read())
    store.remove(f"features/rgb/{short}")
    store.write_features("rgb", short, rows[: len(rows) // 2])
    lines = [
        f"{uid},{video},{start},{start + 1}"
        for uid, video, start in zip(labels.uid, labels.video, labels.start_s, strict=True)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["uid,video,start,stop", *lines]) + "\n")
    which = ("--segments", tmp_path / "list.csv") if listed else ("--split", "validation")
    arguments = ("predict", store.path, run, "-o", tmp_path / "p", *which)
    refused = run_command(*arguments)
    assert refused.exit_code == 2
    assert "no_features" in refused.stderr
    assert "leave the segments out: --allow-missing" in refused.stderr
    assert not (tmp_path / "p").exists()
    done = run_command(*arguments, "--allow-missing")
    assert done.exit_code == 0, done.output
    found = Predictions.load(tmp_path / "p")
    left = len(labels) - len(found.uid)
    assert f"{len(found.uid)} segments; {left} without a window" in done.output
    whole = (labels.video != gone) & (labels.video != short) & (labels.start_s > 1)
    assert set(labels.uid[whole]) <= set(found.uid)
    assert not set(labels.uid[labels.video == gone]) & set(found.uid)
    assert len(set(labels.uid[labels.video == short]) - set(found.uid)) > 0


def test_streaming_of_a_store_that_lacks_a_video(trained):
    store, run, _ = trained
    store.remove(f"features/rgb/{store.labels('validation').videos[0]}")
    arguments = ("stream", store.path, run, "--latency", 0.1)
    refused = run_command(*arguments)
    assert refused.exit_code == 2
    assert "--allow-missing" in refused.stderr
    done = run_command(*arguments, "--allow-missing", "--json")
    assert done.exit_code == 0, done.output
    (said,) = json.loads(done.stdout)
    assert said["classic"]["n"] == len(store.labels("validation"))
    assert said["classic"]["unseen"] >= 7


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(trained, make_store, tmp_path, value):
    """The video and the first segment that would see them are named; nothing is written."""
    store, run, _ = trained
    labels = store.labels("validation")
    seen = TrainedStudent(store, run).predict(labels, split="validation")
    video = str(labels.video[labels.uid == seen.uid[-1]][0])
    rows = np.array(store.features("rgb", video).read())
    rows[-40:, 1] = value
    store.remove(f"features/rgb/{video}")
    store.write_features("rgb", video, rows)
    found = run_command("predict", store.path, run, "-o", tmp_path / "p", "--split", "validation")
    assert found.exit_code == 2
    assert f"video {video}: features that are not finite" in found.stderr
    assert found.stderr.count("\n") == 1
    assert not (tmp_path / "p").exists()


def test_the_pace_of_a_stream_is_told(trained):
    store, run, _ = trained
    words = ["stream", store.path, run, "--latency", 0.5, "--stride", 0.25]
    found = run_command(*words)
    assert found.exit_code == 0, found.output
    assert "500.00 ms a prediction (given)" in found.output
    assert "an input every 0.25 s, a prediction every 0.5 s" in " ".join(found.output.split())


def test_refusals(trained, make_store, tmp_path):
    store, run, _ = trained
    with pytest.raises(NotFound, match="no run here"):
        TrainedStudent(store, tmp_path / "absent")
    other = make_store("other")
    settings = json.loads((run / "config.json").read_text())
    for what, words in (("taxonomy", "another taxonomy"), ("stream fingerprint", "another stream")):
        copy = tmp_path / what
        shutil.copytree(run, copy)
        (copy / "config.json").write_text(json.dumps({**settings, what: "x"}))
        with pytest.raises(FingerprintMismatch, match=words):
            TrainedStudent(other, copy)
    assert other.stream("rgb").settings == settings["stream settings"][0]
    shutil.copytree(run, tmp_path / "else")
    kept = {**settings["stream settings"][0], "fps": 2.0, "weights": "old"}
    said = {"taxonomy": other.taxonomy.fingerprint, "stream fingerprint": "x"}
    for also, words in (
        (
            {"stream settings": [kept]},
            r"another stream: found rgb: fps: 2.0 -> 4.0, weights: 'old'",
        ),
        ({"stream settings": "x"}, "expected x, found [0-9a-f]+"),
    ):
        (tmp_path / "else" / "config.json").write_text(json.dumps({**settings, **said, **also}))
        with pytest.raises(FingerprintMismatch, match=words):
            TrainedStudent(other, tmp_path / "else")
    broken: Path = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / "config.json").write_text(json.dumps({"student": settings["student"]}))
    with pytest.raises(BadCheckpoint, match="no protocol"):
        TrainedStudent(store, broken)
    shutil.rmtree(run / "checkpoint")
    with pytest.raises(NotFound, match="no checkpoint"):
        TrainedStudent(store, run)
