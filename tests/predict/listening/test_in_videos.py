"""A video in: student and listening teacher say what they say over a store of the video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from predict_ears import APART, Listening, heard
from predict_kitchen import GAP_S, extracted, frames, require_same, trained, write_coloured

from antcache.cli.main import cli
from antcache.errors import BadConfig, FingerprintMismatch
from antcache.evaluation import Predictions
from antcache.predict import Anticipator, RollingRows
from antcache.predict.listening.listener import HEARD
from antcache.predict.live.history import GAP


def test_equals_what_is_said_over_a_store(listening: Listening) -> None:
    """The teacher alone, and both with the weights that were learned."""
    own = Predictions.load(listening.folder / HEARD)
    where = listening.segments.locate(own.uid)
    times = listening.segments.start_s[where] - GAP_S
    assert len(times) >= 10
    video = listening.kitchen.folder / "held.mp4"
    alone = heard(listening, (0.0, 1.0)).predict(video, at=times)
    assert alone.times_s.tolist() == times.tolist()
    np.testing.assert_allclose(alone.scores, own.scores, atol=1e-5)
    assert np.ptp(own.scores, axis=0).max() > 1e-2  # what was recognised makes a difference
    both = Anticipator.load(
        listening.student, teacher=listening.folder, backbone=listening.backbone, device="cpu"
    ).predict(video, at=times)
    np.testing.assert_allclose(both.scores, listening.predictions.scores, atol=1e-5)


def test_with_all_the_weight_on_the_student_it_is_the_student(listening: Listening) -> None:
    video = listening.kitchen.folder / "odd.mkv"
    alone = Anticipator.load(listening.student, backbone=listening.backbone, device="cpu")
    said, wanted = heard(listening, (1.0, 0.0)).predict(video), alone.predict(video)
    np.testing.assert_array_equal(said.times_s, wanted.times_s)
    np.testing.assert_allclose(said.scores, wanted.scores, atol=1e-6)
    assert said.last_s == wanted.last_s


def test_half_and_half_is_between_and_later_times_change_nothing(listening: Listening) -> None:
    """Of all times and of a few; `each` says the same, and what has no answer is said."""
    video = listening.kitchen.folder / "even.mp4"
    every = heard(listening, (0.5, 0.5)).predict(video, every=0.7)
    few = heard(listening, (0.5, 0.5)).predict(video, at=[2.8, 7.0, 50.0])
    np.testing.assert_allclose(
        few.scores, every.scores[np.searchsorted(every.times_s, [2.7, 6.9])], atol=1e-6
    )
    assert [each.time_s for each in few.unanswered] == [50.0]
    np.testing.assert_allclose(np.exp(every.scores).sum(axis=1), 1.0, atol=1e-5)
    ends = [heard(listening, w).predict(video, every=0.7) for w in ((1.0, 0.0), (0.0, 1.0))]
    middle = (np.exp(ends[0].scores) + np.exp(ends[1].scores)) / 2
    np.testing.assert_allclose(np.exp(every.scores), middle, atol=1e-5)
    answers = list(heard(listening, (0.5, 0.5)).each(video, every=0.7))
    assert [a.time_s for a in answers] == every.times_s.tolist()


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.0, 1.0)])
@pytest.mark.parametrize("name", ["even.mp4", "odd.mkv", "sparse.mkv"])
def test_pictures_one_by_one_say_the_same(
    listening: Listening, tmp_path: Path, video: Any, name: str, weights: tuple[float, float]
) -> None:
    """Also where a picture completes several rows, and ticks between them were not heard yet."""
    path = listening.kitchen.folder / name
    if name == "sparse.mkv":
        path = tmp_path / name
        write_coloured(video.write, path, [Fraction(13 * i, 10) for i in range(9)], 1)
    asked = heard(listening, weights)
    found = asked.stream(frames(path), every=0.3, top=4)
    require_same(found, asked.each(path, every=0.3, top=4), 1e-5)


def test_a_rolling_window_keeps_what_was_heard(listening: Listening) -> None:
    """However seldom it is asked; behind a gap the history begins anew."""
    asked = heard(listening, (0.0, 1.0))
    path = listening.kitchen.folder / "even.mp4"
    rolling = asked.rolling()
    pictures = list(frames(path))
    for seconds, picture in pictures:
        rolling.see(seconds, picture)
    (wanted,) = asked.each(path, at=[pictures[-1][0]], top=4)
    found = asked.now(rolling, top=4)
    assert found is not None
    assert [each.action for each in found.top] == [each.action for each in wanted.top]
    assert found.top[0].probability == pytest.approx(wanted.top[0].probability, abs=1e-5)
    assert rolling.history is not None
    before = rolling.history.heard
    assert (before.since_s, before.begun_anew, before.ticks) == (0.0, 0, 23)
    rolling.see(50.0, pictures[0][1])
    assert asked.now(rolling) is not None
    after = rolling.history.heard
    assert (after.since_s, after.begun_anew, after.why) == (50.0, 1, GAP)
    untold = RollingRows(asked.make, asked.protocol)
    for each in pictures[:40]:
        untold.see(*each)
    with pytest.raises(BadConfig, match="no teacher was told of these pictures"):
        asked.now(untold)


def test_the_command_says_it(listening: Listening) -> None:
    video = listening.kitchen.folder / "even.mp4"
    given = ["predict", str(video), "--student", str(listening.student), "--every", "2"]
    result = CliRunner().invoke(cli, [*given, "--teacher", str(listening.folder)])
    assert result.exit_code == 0, result.output
    assert "4 s: in 0.5 s, " in result.stdout
    # A recogniser is a student of another question.
    now = ["predict", str(video), "--student", str(listening.recogniser), "--at", "3"]
    assert "3 s: now, " in CliRunner().invoke(cli, now).stdout
    wrong = ["predict", str(video), "--student", str(listening.recogniser), "--at", "3"]
    result = CliRunner().invoke(cli, [*wrong, "--teacher", str(listening.folder)])
    assert result.exit_code == 2
    assert "the listening teacher has weights for another student" in result.stderr


def test_what_does_not_go_together_is_refused(listening: Listening, tmp_path: Path) -> None:
    other = trained(listening.kitchen, tmp_path / "other", "rgb", **APART, seed=1)
    load = {"teacher": listening.folder, "backbone": listening.backbone, "device": "cpu"}
    with pytest.raises(FingerprintMismatch, match="has weights for another student"):
        Anticipator.load(other, **load)
    extracted(listening.kitchen, listening.backbone, "coarse", fps=4.0)
    coarse = trained(listening.kitchen, tmp_path / "coarse", "coarse", **APART)
    with pytest.raises(FingerprintMismatch, match="hears a recogniser of other features"):
        Anticipator.load(coarse, **load)
