"""What is foreseen, scored by hand; one that knows the order is never wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from next_in_order import NextInOrder

from antcache.annotations import Segments, Taxonomy
from antcache.cli.main import cli
from antcache.errors import BadConfig
from antcache.evaluation.long_term.saying import ActionDurations
from antcache.evaluation.long_term.scores import ForeseeingConfig
from antcache.evaluation.long_term.tasks import rest_of_video
from antcache.store import Store
from antcache.teacher.histories import HistoryConfig
from antcache.teacher.long_term.foreseeing import Foresight, foresee
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import teach


@pytest.fixture
def in_order(make_segments):
    """All twelve actions, twice, each as many seconds long as its class has it."""
    action = np.tile(np.arange(12), 2)
    stop = np.cumsum(1 + action % 3)
    return make_segments("a", stop - 1 - action % 3, action, stop)


def foresight(taxonomy, median=None, **settings):
    median = 1.0 + np.arange(12) % 3 if median is None else median
    return Foresight(NextInOrder(taxonomy, **settings), HistoryConfig(), lasting(median))


def lasting(seconds):
    """Actions that last as long as is said, one segment each."""
    return ActionDurations(tuple(np.array([own]) for own in seconds))


def test_who_knows_the_order_is_never_wrong(taxonomy, in_order):
    knows = foresight(taxonomy, times=True)
    found = knows.edits(in_order, ForeseeingConfig(steps=20))
    assert found.sampled == found.likeliest == {"verb": 0.0, "noun": 0.0, "action": 0.0}
    assert (found.n, found.left_out) == (4, 20)
    frames = knows.frames(in_order)
    assert [(row["observed"], row["ahead"]) for row in frames.rows] == [
        (o, a) for o in (0.2, 0.3) for a in (0.1, 0.2, 0.3, 0.5)
    ]
    assert {row["mean_over_classes"] for row in frames.rows} == {100.0}


def test_edits_by_hand(taxonomy, make_segments):
    """0, then 1 2 4 is said to be 1 2 3: an edit of three; verbs of 3 and 4 are equal."""
    found = foresight(taxonomy).edits(
        make_segments("a", [0, 1, 2, 3], [0, 1, 2, 4]), ForeseeingConfig(steps=3)
    )
    third = pytest.approx(1 / 3)
    assert found.likeliest == {"verb": 0.0, "noun": third, "action": third}


def test_the_best_of_several_counts(taxonomy, in_order):
    doubts = foresight(taxonomy, doubt=0.3)
    one, many = (
        doubts.edits(in_order, ForeseeingConfig(steps=5, samples=k)).sampled["action"]
        for k in (1, 30)
    )
    assert many < one


def test_frames_by_hand(taxonomy, make_segments):
    """Two seconds of 10 observed: 1 has half a second left, then 2 and 3 follow, a second each."""
    segments = make_segments("a", [0.5, 3, 6], [1, 2, 3], [3, 6, 10])
    median = np.full(12, 1.0)
    median[1] = 2
    forward = foresight(taxonomy, median)
    task = rest_of_video(segments, "a", observed=0.2, length=4)
    said = forward.say_frames(task)
    expected = np.repeat([-1, 1, 2, 3, 4, 5, 6, 7, 8, 9], [60, 15, *[30] * 7, 15])
    np.testing.assert_array_equal(said, expected)
    rows = {
        (r["observed"], r["ahead"]): r["mean_over_classes"] for r in forward.frames(segments).rows
    }
    # 2 to 3 s are 1's, half of them said; 3 to 5 s are 2's, of which 3 to 3.5 s are said.
    assert rows[0.2, 0.1] == pytest.approx(50)
    assert rows[0.2, 0.3] == pytest.approx((50 + 25) / 2)


def test_what_should_be_over_is_over(taxonomy, make_segments):
    segments = make_segments("a", [0, 5], [1, 2], [5, 10])
    said = foresight(taxonomy, np.ones(12)).say_frames(
        rest_of_video(segments, "a", observed=0.3, length=4)
    )
    np.testing.assert_array_equal(said, np.repeat([-1, 2, 3, 4, 5, 6, 7, 8], [90, *[30] * 7]))


def test_what_has_lasted_goes_on_as_half_of_those_that_lasted_longer(taxonomy, make_segments):
    """Of 1 s, 2 s, 4 s and 9 s; after 3 s that is 6.5 s, though the median of all is 3 s."""
    once = lasting(np.ones(12)).lasted_s
    durations = ActionDurations((once[0], np.array([9.0, 1, 4, 2]), *once[2:]))
    np.testing.assert_array_equal(durations.median_s[:3], [1, 3, 1])
    assert [durations.left_s(1, so_far) for so_far in (0, 1, 3, 4, 9)] == [3, 3, 3.5, 5, 0]
    # What lasted just as long is over, however its seconds were computed.
    same = ActionDurations((np.array([38.5, 60]),))
    assert same.left_s(0, 38.499999999999986) == pytest.approx(21.5)
    segments = make_segments("a", [0, 5], [1, 2], [5, 10])
    knows = Foresight(NextInOrder(taxonomy), HistoryConfig(), durations)
    task = rest_of_video(segments, "a", observed=0.3, length=4)
    said = knows.say_frames(task)
    np.testing.assert_array_equal(said, np.repeat([-1, 1, 2, 3, 4, 5], [90, 105, 30, 30, 30, 15]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, splits, taxonomy):
    """A store with labels, and a count teacher that is told about times."""
    folder = tmp_path_factory.mktemp("foreseen")
    store = Store.create(folder / "kitchen")
    for split, segments in splits.items():
        store.write_labels(split, segments, taxonomy, source="test")
    teach(store, "count", TargetConfig(folds=0, settings={"times": True}), folder / "teacher")
    return folder


def run(folder, *words, code=0):
    words = ["teacher", "foresee", str(folder / "kitchen"), str(folder / "teacher"), *words]
    result = CliRunner().invoke(cli, words, env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result


def test_the_command_says_what_the_library_does(folder):
    config = ForeseeingConfig(steps=4, samples=3, seed=2)
    found = foresee(Store.open(folder / "kitchen"), folder / "teacher", config)
    words = ("--steps", "4", "--samples", "3", "--seed", "2")
    assert json.loads(run(folder, *words, "--json").stdout) == found.to_dict()
    assert (found.n, found.left_out) == (3 * 8, 3 * 4)
    assert 0 < found.sampled["action"] < 1
    text = run(folder, *words).stdout
    for kind, distance in found.sampled.items():
        assert f"{distance:.3f}" in next(x for x in text.splitlines() if x.split()[:1] == [kind])
    assert "after 24 segments; 12 have fewer than 4" in text


def test_the_command_prints_frames(folder):
    rows = json.loads(run(folder, "--form", "frames", "--json").stdout)["rows"]
    text = run(folder, "--form", "frames").stdout
    assert "3 videos" in text
    for row in rows:
        line = next(x for x in text.splitlines() if x.strip().startswith(f"{row['observed']:.0%}"))
        assert f"{row['mean_over_classes']:.1f}" in line.split()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--steps", "12"], "no segment has 12 others after it"),
        (["--steps", "0"], "impossible --steps"),
        (["--split", "none"], "none"),
        (["--train-split", "none"], "none"),
    ],
)
def test_bad_input_is_one_line(folder, words, error):
    result = run(folder, *words, code=2)
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert error in line


def test_an_unknown_form_is_refused(folder):
    with pytest.raises(BadConfig, match="form"):
        foresee(Store.open(folder / "kitchen"), folder / "teacher", ForeseeingConfig(), "weeks")


def test_single_labels_have_no_verbs(make_segments):
    taxonomy = Taxonomy(
        dataset="labels",
        verbs=(),
        nouns=(),
        actions=("a", "b", "c"),
        action_verbs=(),
        action_nouns=(),
    )
    segments = make_segments("a", [0, 1, 2, 3], [0, 1, 2, 0])
    none = np.full(4, -1)
    segments = Segments.of(**{**segments.arrays(), "verb": none, "noun": none})
    found = Foresight(NextInOrder(taxonomy), HistoryConfig(), lasting([1, 1, 1])).edits(
        segments, ForeseeingConfig(steps=2)
    )
    assert found.sampled == {"action": 0.0}
