"""Students that say several next actions: what they learn, what they say, and how it is scored."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_kitchen import CLASSES, DIM, FPS, SECONDS, assert_same_run, stopped_in_step, tiny_taxonomy

from antcache.annotations import Segments
from antcache.cli.main import cli
from antcache.errors import BadConfig
from antcache.evaluation.long_term.saying import ActionDurations, say_frames
from antcache.evaluation.long_term.scores import ForeseeingConfig
from antcache.evaluation.long_term.tasks import next_actions, rest_of_video
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.handing.exporting import export_student
from antcache.student.runs.foreseeing import edits, foresee, frames, say, slot_logits
from antcache.student.runs.kept import KeptStudent
from antcache.student.runs.predicting import TrainedStudent
from antcache.student.runs.train import train
from antcache.student.sweeps.plan import Sweep
from antcache.student.sweeps.run import sweep

LENGTH, SLOTS = 10, 4


def ordered_split(prefix: str, num_videos: int) -> Segments:
    """Videos of LENGTH segments of SECONDS each; after action a always comes a + 1."""
    taxonomy = tiny_taxonomy()
    action = (np.arange(num_videos)[:, None] + np.arange(LENGTH)).ravel() % CLASSES
    start = np.tile(np.arange(LENGTH) * SECONDS, num_videos)
    video = np.repeat([f"{prefix}{v}" for v in range(num_videos)], LENGTH)
    return Segments.of(
        uid=[f"{name}_{i}" for i, name in enumerate(video)],
        video=video,
        start_s=start,
        stop_s=start + SECONDS,
        verb=taxonomy.verb_of[action],
        noun=taxonomy.noun_of[action],
        action=action,
    )


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    """A store whose order is certain and can be seen, and a run that learned it."""
    folder = tmp_path_factory.mktemp("ordered")
    store = Store.create(folder / "store")
    store.create_stream("rgb", dim=DIM, dtype="float16", fps=FPS, source="made up", config={})
    directions = np.random.default_rng(0).standard_normal((CLASSES, DIM))
    for split, videos in (("train", 6), ("validation", 3)):
        segments = ordered_split(split[0], videos)
        for video in segments.videos:
            own = segments[segments.video == video]
            under_way = own.action[(np.arange(LENGTH * SECONDS * FPS) / FPS / SECONDS).astype(int)]
            store.write_features("rgb", video, directions[under_way].astype(np.float16))
        store.write_labels(split, segments, tiny_taxonomy(), source="made up")
    train(store, folder / "run", settings(epochs=40, checkpoint_every=40))
    return folder


def settings(**changes) -> StudentConfig:
    """A student of few weights with SLOTS slots, in one precision on all machines."""
    config = StudentConfig.of(
        layers=1,
        heads=2,
        width=32,
        dropout=0.0,
        epochs=2,
        batch_size=16,
        lr=1e-2,
        slots=SLOTS,
        device="cpu",
        precision="float32",
        evaluate_every=100,
    )
    return config.replace(**changes)


def opened(kitchen) -> Store:
    return Store.open(kitchen / "store")


def test_a_certain_order_is_learned(kitchen):
    store = opened(kitchen)
    found = foresee(store, kitchen / "run", ForeseeingConfig(steps=SLOTS))
    assert found.likeliest["action"] < 0.02
    assert found.sampled["action"] < 0.02
    assert (found.n, found.left_out) == (3 * (LENGTH - SLOTS), 3 * SLOTS)
    fewer = foresee(store, kitchen / "run", ForeseeingConfig(steps=2))
    assert fewer.likeliest["action"] < 0.02
    assert fewer.n == 3 * (LENGTH - 2)


def test_tasks_are_those_of_a_teacher(kitchen):
    """The same segments in the same order, and the true actions that came."""
    store = opened(kitchen)
    segments = store.labels("validation")
    task = next_actions(segments, steps=SLOTS, length=1)
    student = TrainedStudent(store, kitchen / "run")
    asked = segments[task.following[:, 0]]
    said = say(student, asked, split="validation")
    np.testing.assert_array_equal(said.uid, asked.uid)
    np.testing.assert_array_equal(said.likeliest, task.truth)


def test_frames_are_said_slot_by_slot(kitchen):
    """All lasts SECONDS, so what is right in order is right in time, until the slots are at an
    end."""
    store = opened(kitchen)
    rows = foresee(store, kitchen / "run", ForeseeingConfig(), "frames").rows
    by_share = {(row["observed"], row["ahead"]): row["mean_over_classes"] for row in rows}
    assert by_share[0.2, 0.1] == by_share[0.2, 0.3] == by_share[0.3, 0.3] == 100
    # After 6 of 30 s four slots last to 18 s: the action to 21 s is not said, which is one of three
    # of class 0, and in the other two videos one of two.
    assert by_share[0.2, 0.5] == pytest.approx(100 * (2 / 3 + 1 / 2 + 1 / 2 + 3) / 6)
    segments = store.labels("validation")
    task = rest_of_video(segments, "v0", observed=0.25, length=LENGTH)
    durations = ActionDurations.of(segments, CLASSES)
    said = say_frames(task, durations, lambda past: iter([3, 4]))
    np.testing.assert_array_equal(said, np.repeat([-1, 2, 3, 4, -1], [225, 45, 90, 90, 450]))


def test_windows_end_with_the_last_frame_that_was_observed(kitchen):
    """Rows after the moment are others: what is said is the same."""
    store = opened(kitchen)
    one = foresee(store, kitchen / "run", ForeseeingConfig(), "frames")
    asked = []
    original = TrainedStudent.ask

    def remember(self, segments, **how):
        asked.append(segments)
        return original(self, segments, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainedStudent, "ask", remember)
        assert foresee(store, kitchen / "run", ForeseeingConfig(), "frames") == one
    gap_s = TrainedStudent(store, kitchen / "run").protocol.gap_s
    for segments, moment in zip(asked, (6.0, 9.0), strict=True):
        np.testing.assert_allclose(segments.start_s, moment - 1 / 30 + gap_s)


def test_the_first_slot_is_the_ordinary_anticipation(kitchen):
    """Predictions are its logits, and what is likeliest in them is what is said first."""
    store = opened(kitchen)
    student = TrainedStudent(store, kitchen / "run")
    segments = store.labels("validation")
    found = student.predict(segments, split="validation")
    said = say(student, segments, split="validation", samples=7, seed=3)
    np.testing.assert_array_equal(found.uid, said.uid)
    np.testing.assert_array_equal(found.scores.argmax(axis=1), said.likeliest[:, 0])
    assert said.drawn.shape == (len(said.uid), 7, SLOTS)
    again = say(student, segments, split="validation", samples=7, seed=3)
    np.testing.assert_array_equal(said.drawn, again.drawn)


def test_what_is_drawn_follows_the_scores(kitchen):
    """Each slot by its own softmax: 4,000 draws, within five standard errors."""
    store = opened(kitchen)
    student = TrainedStudent(store, kitchen / "run")
    with torch.no_grad():
        student.predictor.student.head.classifier.weight.mul_(0.1)  # doubts
    segments = store.labels("validation")[:3]
    outputs = []
    student.ask(segments, split="v", look=lambda r, f, o: outputs.append(slot_logits(o)))
    share = outputs[0].softmax(dim=-1).numpy()
    drawn = say(student, segments, split="v", samples=4000).drawn
    counted = (drawn[..., None] == np.arange(CLASSES)).mean(axis=1)
    assert share.max() < 0.9
    assert (np.abs(counted - share) <= 5 * np.sqrt(share * (1 - share) / 4000)).all()


def test_resumed_to_the_bit(kitchen, tmp_path):
    store = opened(kitchen)
    one = train(store, None, settings())
    with stopped_in_step(5):
        train(store, tmp_path / "run", settings())
    two = train(store, tmp_path / "run", settings(), resume=True)
    assert two.resumed_epoch == 1
    assert_same_run(one, two)
    assert one.history[-1]["later_loss"] > 0


def test_exported_and_loaded_it_says_the_same(kitchen, tmp_path):
    export_student(kitchen / "run", tmp_path / "out", license="mit")
    features = torch.randn(2, 10, DIM, generator=torch.Generator().manual_seed(0))
    one, two = (KeptStudent.load(p, device="cpu") for p in (kitchen / "run", tmp_path / "out"))
    assert torch.equal(one.predictor(features).logits, two.predictor(features).logits)
    mine, theirs = (slot_logits(each.predictor(features)) for each in (one, two))
    assert mine.shape == (2, SLOTS, CLASSES)
    assert torch.equal(mine, theirs)
    config = ForeseeingConfig(steps=SLOTS)
    store = opened(kitchen)
    assert foresee(store, tmp_path / "out", config) == foresee(store, kitchen / "run", config)


def test_members_of_a_sweep_learn_what_they_learn_alone(kitchen, tmp_path):
    store = opened(kitchen)
    plan = Sweep(settings={"slots": settings()}, seeds=(0, 1), at_once=2)
    sweep(store, tmp_path / "sweep", plan)
    alone = train(store, None, settings(seed=1))
    member = (tmp_path / "sweep/slots/seed-1/metrics.jsonl").read_text("utf-8").splitlines()
    record = json.loads(member[-1])
    for name in ("loss", "later_loss"):
        assert record[name] == pytest.approx(alone.history[-1][name], rel=1e-4)


def test_logits_are_adjusted_in_all_slots(kitchen):
    """By what is subtracted from the first slot's, the same for all windows."""
    store = opened(kitchen)
    model = train(store, None, settings(logit_adjustment=0.5)).model
    features = torch.randn(3, 10, DIM, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        adjusted = slot_logits(model.eval()(features))
        plain = slot_logits(model.head(features))
    assert model.adjustment.abs().sum() > 0
    expected = plain - model.adjustment
    torch.testing.assert_close(adjusted, expected)


def test_no_later_action_is_nothing_to_learn(make_store, small):
    def alone(segments):
        first = np.flatnonzero(np.char.endswith(segments.uid, "_3"))
        return segments[first]

    with pytest.raises(BadConfig, match="no training segment has another after it"):
        train(make_store(relabel=alone), None, small.replace(slots=3))


def run(kitchen, place, *words, code=0):
    words = ["student", "foresee", str(kitchen / "store"), str(place), *words]
    result = CliRunner().invoke(cli, words, env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


def test_the_command_says_what_the_library_does(kitchen):
    config = ForeseeingConfig(steps=3, samples=2, seed=1)
    found = foresee(opened(kitchen), kitchen / "run", config)
    words = ("--steps", "3", "--samples", "2", "--seed", "1")
    assert json.loads(run(kitchen, kitchen / "run", *words, "--json").stdout) == found.to_dict()
    assert "ED@(3,2), drawn" in run(kitchen, kitchen / "run", *words).stdout
    text = run(kitchen, kitchen / "run", "--form", "frames").stdout
    assert "3 videos; 0 left out" in text


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--steps", "5"], "the student says 4 actions"),
        (["--split", "none"], "none"),
        (["--train-split", "none"], "none"),
    ],
)
def test_bad_input_is_one_line(kitchen, words, error):
    result = run(kitchen, kitchen / "run", *words, code=2)
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert error in line


def test_runs_that_can_not_foresee_are_refused(kitchen, tmp_path):
    store = opened(kitchen)
    train(store, tmp_path / "plain", settings(slots=None, epochs=1))
    result = run(kitchen, tmp_path / "plain", code=2)
    assert "the student says the next action alone" in result.stderr
    assert "--slots 20" in result.stderr
    train(store, tmp_path / "end", settings(anchor=1.0, epochs=1))
    result = run(kitchen, tmp_path / "end", "--steps", "2", code=2)
    assert "from before starts alone" in result.stderr


def test_a_video_without_a_window_is_left_out_and_counted(kitchen):
    store = opened(kitchen)
    segments = store.labels("validation")
    own = segments[segments.video == "v0"]
    other = replace(own, uid=np.char.add("o", own.uid), video=np.char.add("other ", own.video))
    both = Segments.of(
        **{
            name: np.concatenate([getattr(segments, name), getattr(other, name)])
            for name in own.arrays()
        }
    )
    student = TrainedStudent(store, kitchen / "run", allow_missing=True)
    durations = ActionDurations.of(segments, CLASSES)
    found = frames(student, both, durations, split="validation")
    assert (found.n, found.left_out) == (4, 1)
    assert found.rows == frames(student, segments, durations, split="validation").rows
    edited = edits(student, both, ForeseeingConfig(steps=SLOTS))
    assert (edited.n, edited.left_out) == (3 * (LENGTH - SLOTS), 4 * SLOTS + LENGTH - SLOTS)


def test_a_graph_gives_the_next_action_alone(kitchen, tmp_path):
    """Its scores are those of the first slot."""
    export_student(kitchen / "run", tmp_path / "out", license="mit", form="torch-export")
    graph = torch.export.load(tmp_path / "out/model.pt2").module()
    features = torch.randn(2, 10, DIM, generator=torch.Generator().manual_seed(0))
    (logits,) = graph(features)
    student = KeptStudent.load(kitchen / "run", device="cpu")
    torch.testing.assert_close(logits, student.predictor(features).logits)
