"""A source is watched: the answers are those about a file, and who is slow keeps up with now."""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from predict_kitchen import Kitchen, extracted, trained

from antcache.errors import UnreadableVideo
from antcache.extract import load_backbone
from antcache.extract.plan import RowRecipe
from antcache.predict import Anticipator
from antcache.predict.held import RowPlace
from antcache.predict.live import opening
from antcache.predict.live.places import Camera
from antcache.predict.live.reader import ROOM, DueRow
from antcache.predict.live.watching import LiveAnswer, Watch


def unhurried(watch: Watch) -> list[LiveAnswer]:
    """The answers of somebody for whom the recording waits, however busy this machine is."""
    reader = watch._reader

    class Waits:
        slowed_s = 0.0

        def __call__(self, time_s: float) -> float:
            while reader.mailbox._waiting and not reader._stopped.is_set():
                time.sleep(0.001)
            return time.monotonic()

    reader._pace = Waits()  # type: ignore[assignment]
    found = list(watch.answers())
    assert watch.report().dropped == 0
    assert all(answer.stand_ins == 0 for answer in found)
    return found


def test_answers_are_those_about_the_same_file(anticipator: Any, made: Kitchen) -> None:
    path = made.folder / "odd.mkv"
    watch = Watch(anticipator, path)
    found = unhurried(watch)
    report = watch.report()
    assert report.answers == len(found) >= 38
    times = [answer.anticipation.time_s for answer in found]
    asked = anticipator.predict(path, at=times)
    assert np.allclose(asked.times_s, times)
    for answer, expected in zip(found, asked.top(5), strict=True):
        assert [each.action for each in answer.anticipation.top] == [e.action for e in expected.top]
        for each, other in zip(answer.anticipation.top, expected.top, strict=True):
            assert each.probability == pytest.approx(other.probability, abs=1e-5)
    assert np.allclose(np.diff(times), 0.25, atol=0.04)


def test_no_more_is_computed_than_the_rows_that_came(
    anticipator: Any, made: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is filled up, as extraction does on a CPU, would be as late as all of it."""
    given: list[int] = []
    real = RowRecipe.make

    def counted(recipe: RowRecipe, prepared: torch.Tensor) -> torch.Tensor:
        given.append(len(prepared))
        return real(recipe, prepared)

    monkeypatch.setattr(RowRecipe, "make", counted)
    watch = Watch(anticipator, made.folder / "odd.mkv")
    unhurried(watch)
    tried_out = 1
    assert sum(given) == watch.report().rows + tried_out


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
            newest.append((rows[-1].place.number, len(rows)))
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


OTHERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "clips": ("videomae", {"fps": 3.0, "clip_fps": 8.0}, {"num_frames": 3, "rate": 1.0}),
    "uneven rates": ("vit", {"fps": 7.0, "dtype": "float32"}, {"num_frames": 3}),
    "int8 tokens": (
        "vit",
        {"dtype": "int8", "tokens": (1, 2, 2)},
        {"head": "probe", "heads": 2, "layers": 1, "num_frames": 2},
    ),
    "rows at windows": (
        "vit",
        {"tokens": (1, 1, 1), "at": "windows", "gaps": (0.5, 1.0, 1.5)},
        {"num_frames": 3},
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_answers_of_other_streams_are_those_about_the_file(
    case: str, made: Kitchen, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name, settings, student = OTHERS[case]
    backbone = load_backbone(str(request.getfixturevalue(name)), device="cpu")
    stream = f"live-{list(OTHERS).index(case)}"
    extracted(made, backbone, stream, **settings)
    run = trained(made, tmp_path / "run", stream, epochs=1, **student)
    asked_of = Anticipator.load(run, backbone=backbone, device="cpu")
    path = made.folder / "held.mp4"
    found = unhurried(Watch(asked_of, path))
    assert len(found) >= 8
    asked = asked_of.predict(path, at=[answer.anticipation.time_s for answer in found])
    by_time = dict(zip(asked.times_s.tolist(), asked.scores, strict=True))
    compared = 0
    for answer in found:
        scores = by_time.get(answer.anticipation.time_s)
        if scores is None:  # of rows at windows, those that would begin before the video
            assert case == "rows at windows"
            continue
        compared += 1
        for each in answer.anticipation.top:
            assert each.probability == pytest.approx(np.exp(scores[each.action]), abs=1e-5)
    assert compared >= 8


def test_memory_does_not_grow_with_the_source(anticipator: Any, made: Kitchen) -> None:
    """What is held after many rows is what was held after a window of them."""
    watch = Watch(anticipator, made.folder / "odd.mkv")
    rows = watch._rows
    picture = rows.recipe.prepare(torch.zeros(1, 48, 80, 3, dtype=torch.uint8))[0]
    held = []
    for number in range(140):
        if number % 7 < 3:  # others are dropped
            rows.add([DueRow(RowPlace(number, 0.0), [picture], 0.0)], "x")
            rows.window()
            held.append(len(rows.shown))
            assert len(rows.shown.numbers) == len(rows.shown)
    assert max(held[:30]) == max(held) <= rows.shown.span + 1
    assert rows.made == len(held)
    rows.add([DueRow(RowPlace(0, 500.0), [picture], 0.0)], "x")  # behind a gap
    assert len(rows.shown) == 1


def test_a_camera_is_watched(
    anticipator: Any, made: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of FFmpeg's own in place of a camera's, in real time."""
    monkeypatch.setattr(opening, "DEVICES", {sys.platform: "lavfi"})
    monkeypatch.setattr(opening, "_device", lambda *_: "testsrc=size=80x48:rate=25,realtime")
    watch = Watch(anticipator, Camera(0))
    found = []
    for answer in watch.answers():
        found.append(answer)
        if len(found) == 6:
            break
    report = watch.report()
    assert report.answers == 6
    assert report.frames >= 30
    times = np.array([answer.anticipation.time_s for answer in found])
    assert (np.diff(times) >= 0.2).all()
    assert all(answer.delay_s >= 0.03 for answer in found)  # until the next frame
    assert not watch._reader._thread.is_alive()
