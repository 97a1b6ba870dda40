"""Weights of student and listening teacher, learned on videos that neither was trained on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy.special import log_softmax
from scripted_kitchen import CLASSES, SMALL, Scripted, scripted_store, write_stream

from antcache.cli.main import cli
from antcache.errors import (
    AlreadyExists,
    AntcacheError,
    BadCheckpoint,
    BadConfig,
    FingerprintMismatch,
    MissingFeature,
    NotFound,
)
from antcache.evaluation import Predictions
from antcache.evaluation.calibration import fit_temperature
from antcache.evaluation.fusion import fuse
from antcache.evaluation.predictions import HELD_OUT
from antcache.predict.listening.hearing import FrameEvidence, Hearing, ListenConfig, log_prior
from antcache.predict.listening.learning import ALONE, BOTH, STUDENT, Listened, listen
from antcache.predict.listening.listener import (
    ARRAYS,
    HEARD,
    HEARD_HELD_OUT,
    SETTINGS,
    Listener,
)
from antcache.student.config import StudentConfig
from antcache.student.recognition import recogniser
from antcache.student.runs.kept import KeptStudent
from antcache.student.runs.predicting import TrainedStudent
from antcache.student.runs.train import train
from antcache.teacher.base import load_teacher, make_teacher, save_teacher
from antcache.teacher.histories import HistoryConfig, Timeline
from antcache.teacher.recognizing.beam import GuessedHistory
from antcache.teacher.recognizing.durations import Durations
from antcache.teacher.targets import examples_for, trained_without
from antcache.tensors import read_tensors, write_tensors


def test_each_says_what_the_other_does_not_know(scripts: Scripted, listened: Listened) -> None:
    """What follows `cut` is told by what came before it, which no window of three seconds sees;
    where a video does as it likes, only the window tells."""
    assert min(listened.weights) > 0.1
    assert listened.nll[2] < min(listened.nll[:2]) - 0.005
    top1 = {name: own["action/top1"] for name, own in listened.metrics.items()}
    assert top1[BOTH] >= top1[STUDENT]
    assert top1[ALONE] > 70
    assert listened.held_out == len(Predictions.load(scripts.student / HELD_OUT))


def test_the_recogniser_recognises(scripts: Scripted) -> None:
    told = json.loads((scripts.recogniser / "result.json").read_text())
    assert told["metrics"]["action/top1"] > 80
    assert told["anchor"] == "0.5"


def test_the_past_is_what_was_recognised(scripts: Scripted, listened: Listened) -> None:
    """Computed anew, step by step, for every segment of a video."""
    store, account = scripts.store, json.loads((listened.folder / SETTINGS).read_text())
    assert account["listening"]["every_s"] == 1.0
    labels, train_labels = store.labels("validation"), store.labels("train")
    found = Predictions.load(listened.folder / HEARD)
    teacher, history = load_teacher(scripts.teacher, store.taxonomy)
    guessed = GuessedHistory(
        teacher=teacher,
        durations=Durations.of(train_labels, CLASSES),
        config=ListenConfig().beam(1.0),
    )
    asked = TrainedStudent(store, scripts.recogniser, device="cpu", allow_missing=True)
    own = labels[labels.video == "v3"]
    times = np.arange(1.0, own.start_s.max())
    one = own[np.zeros(len(times), dtype=int)]
    moments = replace(one, uid=times.astype(str), start_s=times - 0.5, stop_s=times + 0.5)
    scores = asked.predict(moments, split="moments").scores
    away = json.loads((scripts.recogniser / "config.json").read_text())["held out"]
    counts = np.bincount(train_labels.action[~np.isin(train_labels.video, away)], minlength=CLASSES)
    held = Predictions.load(scripts.recogniser / HELD_OUT)
    truth = train_labels.action[train_labels.locate(held.uid)]
    temperature = fit_temperature(held.scores, truth)
    assert account["temperature"] == temperature
    likelihood = log_softmax(scores.astype(float) / temperature, axis=1) - np.log(counts + 1.0)
    rows = (own.start_s[1:] - 1.0).astype(int) - 1  # the row of second 1 is the first one
    expected = guessed.expect(likelihood, rows)
    place = found.uid.tolist()
    said = found.scores[[place.index(uid) for uid in own.uid[1:].tolist()]]
    np.testing.assert_allclose(said, expected, atol=1e-4)
    assert history == HistoryConfig()


def test_the_teacher_of_the_weights_never_saw_their_videos(
    scripts: Scripted, listened: Listened
) -> None:
    store = scripts.store
    held = Predictions.load(scripts.student / HELD_OUT)
    labels = store.labels("train")
    videos = set(labels.video[labels.locate(held.uid)].tolist())
    teacher, history = load_teacher(scripts.teacher, store.taxonomy)
    timeline = Timeline.of_store(store)
    apart = trained_without(teacher, timeline, history, videos)
    examples = examples_for(teacher, timeline, history)
    inside = np.isin(timeline.segments.video, list(videos))
    again = make_teacher("count", store.taxonomy)
    again.fit(examples[(timeline.split == "train") & ~inside])
    some = examples[inside]
    np.testing.assert_array_equal(apart.predict(some).logits, again.predict(some).logits)
    assert np.abs(apart.predict(some).logits - teacher.predict(some).logits).max() > 1e-3
    with pytest.raises(BadConfig, match="nothing to train on"):
        trained_without(teacher, timeline, history, set(labels.videos))


def test_weights_are_those_of_fuse_and_the_files_are_predictions(
    scripts: Scripted, listened: Listened
) -> None:
    again = fuse(
        scripts.store,
        [str(scripts.student), str(listened.folder / HEARD)],
        weights="held-out",
        held_out=[str(scripts.student / HELD_OUT), str(listened.folder / HEARD_HELD_OUT)],
    )
    assert again.weights == listened.weights
    np.testing.assert_array_equal(
        Predictions.load(listened.folder).scores, again.predictions.scores
    )
    told = CliRunner().invoke(
        cli,
        ["compare", str(scripts.store.path), str(scripts.student), str(listened.folder)],
    )
    assert told.exit_code == 0, told.output
    kept = Listener.load(listened.folder)
    kept.check(KeptStudent.load(scripts.student, device="cpu"), scripts.student)
    assert kept.weights == listened.weights
    assert kept.gap_s == 1.0


def test_prior_and_likelihood() -> None:
    """A recogniser that says what is likely anyway has said nothing."""
    prior = log_prior(np.array([0, 0, 0, 1]), 3)
    np.testing.assert_allclose(np.exp(prior), [4 / 7, 2 / 7, 1 / 7])
    evidence = FrameEvidence(prior=prior, temperature=1.0)
    said = evidence.likelihood(np.stack([prior + 5.0, np.zeros(3)]))
    assert np.ptp(said[0]) < 1e-12
    assert said[1].argmax() == 2
    surer = replace(evidence, temperature=0.1).likelihood(np.array([[0.4, 0.0, 0.1]]))
    assert surer.argmax() == 0
    assert evidence.likelihood(np.array([[0.4, 0.0, 0.1]])).argmax() == 2  # rare, and so likely


def test_a_recogniser_that_is_too_unsure_is_heard(scripts: Scripted, tmp_path: Path) -> None:
    """Scores of a tenth of the size tell the same: their temperature is a tenth."""
    quiet = shutil.copytree(scripts.recogniser, tmp_path / "quiet")
    held = Predictions.load(quiet / HELD_OUT)
    replace(held, scores=held.scores / 10).save(quiet / HELD_OUT, overwrite=True)
    usual = TrainedStudent.predict

    def predict(self: TrainedStudent, *given: Any, **named: Any) -> Predictions:
        said = usual(self, *given, **named)
        return replace(said, scores=said.scores / 10)

    folders = {}
    for name, run in (("loud", scripts.recogniser), ("quiet", quiet)):
        with pytest.MonkeyPatch.context() as patch:
            if name == "quiet":
                patch.setattr(TrainedStudent, "predict", predict)
            folders[name] = listen(
                scripts.store, scripts.student, run, scripts.teacher, tmp_path / f"{name}-ears"
            )
    said = {name: json.loads((own.folder / SETTINGS).read_text()) for name, own in folders.items()}
    assert said["quiet"]["temperature"] == pytest.approx(said["loud"]["temperature"] / 10, rel=1e-4)
    heard = [Predictions.load(own.folder / HEARD).scores for own in folders.values()]
    np.testing.assert_allclose(heard[0], heard[1], atol=1e-2)


def test_what_is_expected_depends_on_no_later_tick(scripts: Scripted, listened: Listened) -> None:
    kept = Listener.load(listened.folder)
    seen = np.random.default_rng(0).normal(0, 3, (12, CLASSES))
    times = np.arange(1.0, 13.0)
    all_at_once, one_by_one = kept.hear(), kept.hear()
    all_at_once.recognised(times, seen)
    said = [all_at_once.expected(time_s) for time_s in (0.5, 1.0, 3.2, 7.999, 12.0)]
    for time_s, expected in zip((0.5, 1.0, 3.2, 7.999, 12.0), said, strict=True):
        alone: Hearing = kept.hear()
        alone.recognised(times[times <= time_s], seen[times <= time_s])
        np.testing.assert_array_equal(alone.expected(time_s), expected)
    np.testing.assert_array_equal(one_by_one.expected(0.0), said[0])
    assert not np.array_equal(said[1], said[2])


def run(scripts: Scripted, out: Path, **changes: Any) -> Result:
    given: dict[str, Any] = {
        "student": scripts.student,
        "recogniser": scripts.recogniser,
        "teacher": scripts.teacher,
        "output": out,
        **changes,
    }
    store = given.pop("store", scripts.store.path)
    words = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    return CliRunner().invoke(cli, ["teacher", "listen", str(store), *words])


def test_the_command_says_what_it_found(
    scripts: Scripted, listened: Listened, tmp_path: Path
) -> None:
    result = run(scripts, tmp_path / "ears")
    assert result.exit_code == 0, result.output
    for words in (STUDENT, ALONE, BOTH, "action/top1", f"NLL of {listened.held_out} held out"):
        assert words in result.stdout
    assert f"{listened.weights[0]:.4f}" in result.stdout
    result = run(scripts, tmp_path / "ears")
    assert result.exit_code == 2
    assert "a listening teacher is already here" in result.stderr
    result = run(scripts, tmp_path / "ears", trust=0.2, every=2)
    assert result.exit_code == 2
    other = CliRunner().invoke(
        cli,
        [
            *("teacher", "listen", str(scripts.store.path), "--json", "--overwrite"),
            *("--student", str(scripts.student), "--recogniser", str(scripts.recogniser)),
            *("--teacher", str(scripts.teacher), "-o", str(tmp_path / "ears"), "--trust", "0.2"),
        ],
    )
    told = json.loads(other.stdout)
    assert sum(told["weights"].values()) == pytest.approx(1)
    assert told["weights"]["student"] != listened.weights[0]
    assert told["gap_s"] == 1.0


def refused(
    scripts: Scripted, out: Path, error: type[AntcacheError], said: str, **changes: Any
) -> None:
    """Refused in one line, and nothing is written."""
    given: dict[str, Any] = {
        "store": scripts.store,
        "student": scripts.student,
        "recogniser": scripts.recogniser,
        "teacher": scripts.teacher,
        **changes,
    }
    with pytest.raises(error, match=said) as raised:
        listen(**given, folder=out)
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_runs_of_another_kind_are_refused(scripts: Scripted, tmp_path: Path) -> None:
    store, out, config = scripts.store, tmp_path / "out", StudentConfig.of(**{**SMALL, "epochs": 1})
    anticipates = "this run anticipates, and recognises nothing"
    refused(scripts, out, BadConfig, anticipates, recogniser=scripts.student)
    refused(scripts, out, BadConfig, "says what begins next", student=scripts.recogniser)
    train(store, tmp_path / "ends", config.replace(anchor=1.0))
    refused(scripts, out, BadConfig, "the anchor end", student=tmp_path / "ends")
    train(store, tmp_path / "none", config.replace(held_out=0.0))
    refused(scripts, out, NotFound, "train the student with --held-out", student=tmp_path / "none")
    other = recogniser(config.replace(train_split="validation", validation_split="train"))
    train(store, tmp_path / "turned", other)
    said = "trained on another split than the student: expected train, found validation"
    refused(scripts, out, BadConfig, said, recogniser=tmp_path / "turned")
    few = recogniser(config.replace(held_out=0.05))
    train(store, tmp_path / "few", few)
    seen = "trained on videos that the student's run held out"
    refused(scripts, out, BadConfig, seen, recogniser=tmp_path / "few")
    shutil.copytree(scripts.recogniser, tmp_path / "cut")
    (tmp_path / "cut" / "result.json").unlink()
    refused(scripts, out, NotFound, "run is not finished", recogniser=tmp_path / "cut")
    for name in ("student", "recogniser", "teacher"):
        refused(scripts, out, NotFound, "no", **{name: tmp_path / "nowhere"})


def test_teachers_that_can_not_listen_are_refused(scripts: Scripted, tmp_path: Path) -> None:
    timed = make_teacher("count", scripts.store.taxonomy, {"times": True})
    timeline = Timeline.of_store(scripts.store)
    timed.fit(timeline.examples(HistoryConfig(), timed.config.length, times=True))
    save_teacher(timed, HistoryConfig(), tmp_path / "timed")
    out = tmp_path / "out"
    refused(scripts, out, BadConfig, "no times to tell the teacher", teacher=tmp_path / "timed")
    classes = replace(
        scripts.store.taxonomy, actions=(*scripts.store.taxonomy.actions[:-1], "wait")
    )
    other = make_teacher("count", classes)
    other.fit(timeline.examples(HistoryConfig(), other.config.length))
    save_teacher(other, HistoryConfig(), tmp_path / "other")
    said = "the teacher is for another taxonomy"
    refused(scripts, out, BadCheckpoint, said, teacher=tmp_path / "other")


def test_a_store_that_does_not_fit_is_refused(scripts: Scripted, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bare = scripted_store(tmp_path / "bare.zarr", "other")
    refused(scripts, out, AntcacheError, "'rgb'", store=bare)
    splits = [bare.labels("train"), bare.labels("validation")[:4]]
    write_stream(bare, "rgb", splits)
    refused(scripts, out, MissingFeature, "the first one v1", store=bare)


def test_a_folder_that_is_there_stays(scripts: Scripted, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(AlreadyExists, match="not a listening teacher is already here"):
            listen(
                scripts.store,
                scripts.student,
                scripts.recogniser,
                scripts.teacher,
                tmp_path / "mine",
                overwrite=overwrite,
            )
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


@pytest.fixture
def copied(listened: Listened, tmp_path: Path) -> Path:
    return shutil.copytree(listened.folder, tmp_path / "copied")


SAYS: dict[str, tuple[Any, str]] = {
    "format": ("antcache-listener-9", "format antcache-listener-9"),
    "weights": ([0.5, 0.6], "their sum is not 1"),
    "weights ": ([float("nan"), 1.0], "two numbers from 0 to 1"),
    "weights  ": ([1.0], "two numbers"),
    "weights   ": ("half", "two numbers"),
    "gap_s": (-1.0, "gap_s"),
    "gap_s ": (True, "gap_s"),
    "temperature": (0.0, "temperature"),
    "temperature ": ("cold", "temperature"),
    "student": (None, "student: a text"),
    "listening": ({"every_s": 0.0}, "every_s"),
    "listening ": ({"every_s": 1.0, "ears": 2}, "ears"),
    "listening  ": (7, "listening"),
}


@pytest.mark.parametrize("name", SAYS)
def test_settings_from_anybody_are_checked(copied: Path, name: str) -> None:
    value, said = SAYS[name]
    file = copied / SETTINGS
    file.write_text(json.dumps({**json.loads(file.read_text()), name.strip(): value}))
    with pytest.raises(BadCheckpoint, match="settings of the listening teacher") as raised:
        Listener.load(copied)
    assert said in str(raised.value) or name.startswith("listening  ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": "antcache-listener-1"}'])
def test_broken_json_is_refused(copied: Path, text: str) -> None:
    (copied / SETTINGS).write_text(text)
    with pytest.raises(BadCheckpoint, match="settings of the listening teacher can't be read"):
        Listener.load(copied)


def test_arrays_from_anybody_are_checked(copied: Path) -> None:
    kept = read_tensors(copied / ARRAYS).tensors
    for changes in (
        {"action": kept["action"] + 1},
        {"action": kept["action"].astype(np.int32)},
        {"action": kept["action"][1:]},
        {"lasted_s": -kept["lasted_s"]},
        {"lasted_s": np.full_like(kept["lasted_s"], np.inf)},
        {"prior": kept["prior"][1:]},
        {"prior": np.full_like(kept["prior"], np.nan)},
    ):
        write_tensors(copied / ARRAYS, {**kept, **changes})
        with pytest.raises(BadCheckpoint, match="knows of the past can't be read"):
            Listener.load(copied)
    (copied / ARRAYS).write_bytes(b"no tensors")
    with pytest.raises(BadCheckpoint, match="knows of the past can't be read"):
        Listener.load(copied)
    none = {"action": kept["action"][:0], "lasted_s": kept["lasted_s"][:0]}
    write_tensors(copied / ARRAYS, {**kept, **none})
    with pytest.raises(BadCheckpoint, match="the teacher can't listen"):
        Listener.load(copied)


def test_what_is_missing_is_said(copied: Path, scripts: Scripted, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="antcache teacher listen makes one of a teacher"):
        Listener.load(scripts.teacher)  # a teacher that does not listen
    with pytest.raises(NotFound, match="no listening teacher here"):
        Listener.load(tmp_path / "nowhere")
    shutil.rmtree(copied / "recogniser")
    with pytest.raises(NotFound, match="the listening teacher is not whole"):
        Listener.load(copied)
    shutil.copytree(scripts.student, copied / "recogniser")
    with pytest.raises(BadCheckpoint, match="its recogniser anticipates"):
        Listener.load(copied)


def test_it_is_for_its_student_alone(scripts: Scripted, listened: Listened) -> None:
    kept = Listener.load(listened.folder)
    student = KeptStudent.load(scripts.student, device="cpu")
    for changes, said in (
        ({"config": student.config.replace(seed=5)}, "has weights for another student"),
        ({"protocol": replace(student.protocol, gap_s=2.0)}, "has weights for another student"),
        ({"streams": (replace(student.streams[0], fingerprint="x"),)}, "of other features"),
        ({"taxonomy": replace(student.taxonomy, dataset="x")}, "is for another taxonomy"),
    ):
        with pytest.raises(FingerprintMismatch, match=said):
            kept.check(replace(student, **changes), "here")
    kept.check(replace(student, config=student.config.replace(device="cuda")), "here")
