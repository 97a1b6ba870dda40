"""A source is watched: the answers are those about a file, and who is slow keeps up with now."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict_kitchen import Kitchen

from antcache.errors import UnreadableVideo
from antcache.predict.live.reader import ROOM
from antcache.predict.live.watching import LiveAnswer, Watch


def test_answers_are_those_about_the_same_file(anticipator: Any, made: Kitchen) -> None:
    path = made.folder / "odd.mkv"
    watch = Watch(anticipator, path, speed=4.0)
    found = list(watch.answers())
    report = watch.report()
    assert report.dropped == 0
    assert report.answers == len(found) >= 38
    times = [answer.anticipation.time_s for answer in found]
    asked = anticipator.predict(path, at=times)
    assert np.allclose(asked.times_s, times)
    for answer, expected in zip(found, asked.top(5), strict=True):
        assert [each.action for each in answer.anticipation.top] == [e.action for e in expected.top]
        for each, other in zip(answer.anticipation.top, expected.top, strict=True):
            assert each.probability == pytest.approx(other.probability, abs=1e-5)
        assert answer.stand_ins == 0
    assert np.allclose(np.diff(times), 0.25, atol=0.04)


class Slow:
    """A student that takes its time, beside the real one."""

    def __init__(self, real: Any, seconds: float) -> None:
        self._real, self._seconds = real, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def score(self, *args: Any) -> Any:
        time.sleep(self._seconds)
        return self._real.score(*args)


def test_who_is_slow_drops_rows_and_stays_with_now(anticipator: Any, made: Kitchen) -> None:
    """A prediction takes longer than two rows: each is about the newest when it is begun."""
    cost_s = 0.3
    watch = Watch(Slow(anticipator, cost_s), made.folder / "odd.mkv", speed=2.0)
    box, newest = watch._reader.mailbox, []
    take = box.take

    def taken(*args: Any) -> Any:
        rows = take(*args)
        if rows:
            newest.append((rows[-1].number, len(rows)))
        return rows

    box.take = taken  # type: ignore[method-assign]
    found = list(watch.answers())
    report = watch.report()
    assert report.rows == 40
    assert report.answers == len(found)
    assert report.dropped == found[-1].dropped > 10
    made_rows = [count for _, count in newest]
    assert sum(made_rows) + report.dropped == 40
    assert max(made_rows[3:]) == 1  # none that waited is made as well: that would add to the delay
    assert min(answer.delay_s for answer in found) >= cost_s
    assert (np.diff([answer.anticipation.time_s for answer in found]) > 0).all()
    assert max(answer.stand_ins for answer in found) >= 1


def test_what_is_taken_is_the_newest(anticipator: Any, made: Kitchen) -> None:
    """Whatever came while somebody was busy, nothing that is older is begun with."""
    watch = Watch(anticipator, made.folder / "odd.mkv", speed=100.0)
    numbers = []
    for answer in watch.answers():
        time.sleep(0.1)
        numbers.append((round(4 * answer.anticipation.time_s - 0.05), watch.report().rows))
    assert numbers[-1][0] == 39
    for (_, came_before), (number, _) in pairwise(numbers):
        assert number >= came_before - 1
    assert watch.report().dropped > 0


def test_rows_that_waited_are_made_if_there_is_time(
    anticipator: Any, made: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a hiccup nothing is missing from the window."""
    watch = Watch(anticipator, made.folder / "odd.mkv", speed=2.0)
    monkeypatch.setattr(watch, "_cost_s", 0.01)  # what a row is thought to cost
    monkeypatch.setattr(watch, "_learn", lambda cost_s: None)
    found: list[LiveAnswer] = []
    for answer in watch.answers():
        found.append(answer)
        if len(found) == 4:
            time.sleep(0.5)  # four rows come meanwhile
        if len(found) == 8:
            break
    assert watch.report().dropped == 0
    steps = np.diff([answer.anticipation.time_s for answer in found])
    assert steps.max() > 0.7
    assert all(answer.stand_ins == 0 for answer in found)


@pytest.mark.parametrize(
    ("cost_s", "most"), [(float("nan"), 1), (9.0, 1), (0.26, 1), (0.06, 4), (1e-6, ROOM)]
)
def test_how_many_rows_there_is_time_for(
    anticipator: Any, made: Kitchen, monkeypatch: pytest.MonkeyPatch, cost_s: float, most: int
) -> None:
    watch = Watch(anticipator, made.folder / "odd.mkv")
    monkeypatch.setattr(watch, "_cost_s", cost_s)
    assert watch._most() == most


def test_who_has_seen_enough_ends_the_reading(anticipator: Any, made: Kitchen) -> None:
    watch = Watch(anticipator, made.folder / "even.mp4", speed=1.0)
    answers = watch.answers()
    next(answers)
    began = time.monotonic()
    answers.close()
    assert time.monotonic() - began < 2
    assert not watch._reader._thread.is_alive()
    assert watch.report().answers == 1


def test_what_can_not_be_decoded_is_said_in_one_line(anticipator: Any, tmp_path: Path) -> None:
    path = tmp_path / "no.mp4"
    path.write_text("not a video")
    with pytest.raises(UnreadableVideo, match=r"no\.mp4: not a video that can be opened"):
        list(Watch(anticipator, path).answers())
