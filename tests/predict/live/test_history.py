"""A teacher listens live: as to a file, whatever is dropped, and anew where nothing joins."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import live_servers
import numpy as np
import pytest
from predict_ears import Listening, heard
from predict_kitchen import action_at
from test_watching import unhurried

from antcache.cli.main import main
from antcache.predict import Anticipator
from antcache.predict.asking import windows_at
from antcache.predict.held import RowPlace
from antcache.predict.live import history as histories
from antcache.predict.live.history import GAP, JUMP, MOST_SILENT, SILENCE, LiveHistory
from antcache.predict.live.watching import Watch
from antcache.teacher.recognizing.beam import GuessedHistory
from antcache.teacher.recognizing.beam import Listening as Guessing

FPS, EVERY_S = 5.0, 0.5
"""Rows a second of the stream, and the teacher's ticks."""
Rows = dict[int, np.ndarray]


@pytest.fixture
def both(listening: Listening) -> Anticipator:
    return heard(listening, (0.5, 0.5))


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.0, 1.0)])
def test_answers_are_those_about_the_same_file(listening: Listening, weights: Any) -> None:
    """Of both, and of the teacher alone."""
    asked_of = heard(listening, weights)
    path = listening.kitchen.folder / "odd.mkv"
    found = unhurried(Watch(asked_of, path, top=4))
    assert len(found) >= 48
    asked = asked_of.predict(path, at=[answer.anticipation.time_s for answer in found])
    assert len(asked.times_s) == len(found)
    for answer, scores in zip(found, asked.scores, strict=True):
        assert len(answer.anticipation.top) == 4
        for each in answer.anticipation.top:
            assert each.probability == pytest.approx(np.exp(scores[each.action]), abs=1e-5)
    assert np.ptp(asked.scores, axis=0).max() > 1e-2
    past = found[-1].history
    assert past is not None
    assert (past.since_s, past.ticks, past.silent, past.begun_anew) == (0, 19, 0, 0)
    assert str(past) == "history since 0 s"


def rows_of(listening: Listening, video: str, made: Iterable[int]) -> Rows:
    """Some rows of a video, as its store has them."""
    rows = listening.kitchen.store.features("rgb", video).rows[:]
    return {number: rows[number : number + 1] for number in made}


def told(
    both: Anticipator, rows: Rows, *, start_s: float = 0.0, shift: int = 0, jumps: int = 0
) -> LiveHistory:
    """A teacher that was told of some rows, as one that listens to a source is."""
    assert both.listener is not None
    found = LiveHistory(both, both.listener, "a test")
    tell(found, rows, start_s=start_s, shift=shift, jumps=jumps)
    return found


def tell(
    history: LiveHistory, rows: Rows, *, start_s: float = 0.0, shift: int = 0, jumps: int = 0
) -> None:
    for number, row in rows.items():
        history.take(RowPlace(number + shift, start_s, jumps), (row, None))


def plainly(both: Anticipator, rows: Rows, until_s: float) -> np.ndarray:
    """What `GuessedHistory` says of ticks whose windows are put together one by one, with zeros for
    those that nothing new was seen at."""
    assert both.listener is not None
    times = np.arange(1, round(until_s / EVERY_S) + 1) * EVERY_S
    protocol = both.listener.ticks.protocol
    said, asked_before = np.zeros((len(times), len(both.names))), -1
    for i, asked in enumerate(windows_at(times, both.make.stream, protocol, start_s=0.0)):
        assert asked.rows is not None
        wanted = asked.rows.tolist()
        seen = [max([m for m in rows if m <= w], default=min(rows)) for w in wanted]
        if any(asked_before < m <= wanted[-1] for m in rows):
            window = np.stack([rows[m][0] for m in seen])
            said[i] = both.recognise(as_tensor(window))[0]
        asked_before = wanted[-1]
    fresh = GuessedHistory(
        teacher=both.listener.guessed.teacher,
        durations=both.listener.guessed.durations,
        config=both.listener.guessed.config,
    )
    return fresh.expect(said, np.array([len(times) - 1]))[0]


def as_tensor(window: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(window[None]).float()


DROPS = {
    "none": (),
    "one": (9,),
    "those of a tick": (15,),
    "every other": tuple(range(1, 36, 2)),
    "two of three": tuple(i for i in range(36) if i % 3),
    "four seconds": tuple(range(8, 28)),
    "but for the last": tuple(range(3, 36)),
}


@pytest.mark.parametrize("case", DROPS)
def test_a_tick_is_a_tick_whatever_is_dropped(
    listening: Listening, both: Anticipator, case: str
) -> None:
    """How long actions last stays in seconds: at what was not seen the search goes on without."""
    made = [i for i in range(37) if i not in DROPS[case]]
    rows = rows_of(listening, "even", made)
    history = told(both, rows)
    until_s = 36 / FPS
    expected = history.expected(until_s)
    np.testing.assert_allclose(expected, plainly(both, rows, 7.0), atol=1e-5)
    past = history.heard
    assert past.ticks == 14  # one each half second
    silent = {"four seconds": 8, "but for the last": 13}
    assert past.silent == silent.get(case, past.silent)
    if case in ("none", "one", "those of a tick", "every other"):
        assert past.silent == 0
    assert (past.begun_anew, past.why) == (0, "")


def test_ticks_that_are_left_out_would_make_a_difference(
    listening: Listening, both: Anticipator
) -> None:
    rows = rows_of(listening, "even", [*range(8), *range(28, 37)])
    wanted = told(both, rows).expected(7.2)
    closer = {(n if n < 8 else n - 20): row for n, row in rows.items()}
    assert np.abs(told(both, closer).expected(3.2) - wanted).max() > 1e-2


@pytest.mark.parametrize("why", [GAP, JUMP, SILENCE])
def test_where_nothing_joins_the_history_begins_anew(
    listening: Listening, both: Anticipator, why: str
) -> None:
    """From then on it is that of somebody who only began to watch."""
    first, then = rows_of(listening, "even", range(30)), rows_of(listening, "odd", range(2, 25))
    history = told(both, first)
    history.expected(29 / FPS)
    before = history.heard
    if why == GAP:
        tell(history, then, start_s=41.3)
        fresh, since_s = told(both, then, start_s=41.3), 41.3 + 2 / FPS
    elif why == JUMP:
        tell(history, then, shift=30, jumps=1)
        # Windows reach back to the first row behind it.
        fresh = told(both, {n - 2: row for n, row in then.items()}, start_s=32 / FPS)
        since_s = 32 / FPS
    else:
        late = round((MOST_SILENT + 3) * EVERY_S * FPS) + 30
        tell(history, then, shift=late)
        since_s = (late + 2) / FPS
        fresh = told(both, {n - 2: row for n, row in then.items()}, start_s=since_s)
    until_s = since_s + 22 / FPS
    np.testing.assert_allclose(history.expected(until_s), fresh.expected(until_s), atol=1e-6)
    past = history.heard
    assert (past.begun_anew, past.why) == (before.begun_anew + 1, why)
    assert past.since_s == pytest.approx(since_s)
    assert past.ticks == fresh.heard.ticks
    assert 7 <= past.ticks <= 9
    assert str(past).endswith(f"begun anew {why}")


def test_a_minute_without_rows_is_the_most(listening: Listening, both: Anticipator) -> None:
    """A tick fewer, and the history goes on; however long the silence, few ticks are looked at."""
    rows = rows_of(listening, "even", range(30))
    goes_on = told(both, rows)
    newest = 29 + round(MOST_SILENT * EVERY_S * FPS)
    tell(goes_on, {newest: rows[3]})
    assert goes_on.heard.begun_anew == 0
    assert goes_on.heard.silent >= MOST_SILENT - 2
    ends = told(both, rows)
    tell(ends, {10_000_000: rows[3]})
    assert ends.heard.begun_anew == 1
    assert (ends.heard.ticks, ends.heard.silent) == (0, 0)


def test_memory_does_not_grow_with_the_source(
    listening: Listening, both: Anticipator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, ticks that wait and guesses are as few after 1,600 rows as after 100."""
    history = told(both, {})
    beams: list[Guessing] = []
    hear = Guessing.hear

    def noted(self: Guessing, likelihood: Any) -> None:
        hear(self, likelihood)
        beams.append(self)

    monkeypatch.setattr(Guessing, "hear", noted)
    rows = rows_of(listening, "even", range(50))
    held = []
    for number in range(1600):
        if number % 7 < 5:
            tell(history, {number: rows[number % 50]})
        if number % 3 == 0 and number % 7 < 5:
            history.expected(number / FPS)
        guesses = beams[-1]._guesses if beams else None
        kept = 0 if guesses is None else len(guesses.past) + sum(map(len, guesses.past))
        held.append((len(history._shown), len(history._waiting), kept))
        assert len(history._hearing._waiting) == 0
    assert history.heard.begun_anew == 0
    assert history.heard.ticks >= 318
    rows_held, waiting, kept = np.transpose(held)
    assert rows_held[100:].max() <= rows_held[:100].max() <= history._shown.span + 1
    assert waiting.max() <= 3
    assert both.listener is not None
    guessed = both.listener.guessed
    assert kept.max() <= guessed.config.width * (1 + guessed.teacher.config.length)


def test_many_ticks_of_a_row_are_asked_a_batch_at_a_time(
    listening: Listening, both: Anticipator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder from elsewhere may ask for a thousand ticks a second; what it says is the same."""
    rows = rows_of(listening, "even", range(12))
    wanted = told(both, rows).expected(2.2)
    asked: list[int] = []
    recognise = Anticipator.recognise

    def counted(self: Anticipator, features: Any, where: object = "") -> Any:
        asked.append(len(features))
        return recognise(self, features, where)

    monkeypatch.setattr(Anticipator, "recognise", counted)
    monkeypatch.setattr(histories, "scoring_batch", lambda shape: 3)
    np.testing.assert_allclose(told(both, rows).expected(2.2), wanted, atol=1e-6)
    assert max(asked) <= 3
    assert both.listener is not None
    often = replace(both.listener, config=replace(both.listener.config, every_s=0.001))
    history = LiveHistory(both, often, "a test")
    tell(history, {0: rows[0], 1: rows[1]})
    assert history._hearing is not None
    assert len(history._waiting) < 3
    assert history.heard.ticks >= 160


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(listening: Listening, vit: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Ask:
    """Function: runs the command with the teacher; exit code, stdout and stderr."""

    def asked(source: object, *words: object, teacher: Path = listening.folder) -> Any:
        line = ["antcache", "watch", str(source), "--student", str(listening.student)]
        line += ["--teacher", str(teacher), "--device", "cpu", *map(str, words)]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return asked


def test_the_command_says_how_far_its_history_goes(ask: Ask, listening: Listening) -> None:
    film = listening.kitchen.folder / "held.mp4"
    code, out, _ = ask(film, "--speed", 4)  # a busy machine says that it played it more slowly
    assert code == 0
    *answers, end = out.splitlines()
    assert len(answers) > 3
    for line in answers:
        assert re.search(r"; history since 0 s(, \d+ of \d+ ticks silent)?$", line), line
    assert "anew" not in end
    code, out, _ = ask(film, "--speed", 4, "--json")
    assert code == 0
    *found, summary = [json.loads(line) for line in out.splitlines()]
    for each in found:
        assert set(each["history"]) == {"since_s", "ticks", "silent", "begun_anew", "why"}
    assert found[-1]["history"]["ticks"] == 16
    assert summary["summary"]["begun_anew"] == 0


def write_stream(path: Path) -> None:
    """Three seconds as broadcasters send them."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for number in range(75):
            shade = 60 * action_at(number / 25, 0)
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 80, 3), shade, np.uint8), format="rgb24"
            )
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(("name", "why"), [("restarting", JUMP), ("pausing", GAP)])
def test_a_source_that_jumps_or_pauses(ask: Ask, tmp_path: Path, name: str, why: str) -> None:
    """A server shows something from its beginning again, or nothing for a while."""
    write_stream(tmp_path / "film.ts")
    with live_servers.serving(tmp_path) as (url, _):
        code, out, err = ask(f"{url}/{name}", "--json")
    assert code == 2
    assert "broke off" in err
    *found, summary = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]
    assert found[0]["history"]["why"] == ""
    last = found[-1]["history"]
    assert (last["why"], last["begun_anew"]) == (why, 1)
    assert 1 < last["since_s"] < found[-1]["time_s"] < last["since_s"] + 4
    assert last["ticks"] <= 7
    assert summary["summary"]["begun_anew"] == 1


def test_a_teacher_that_can_not_listen_is_one_line(
    ask: Ask, listening: Listening, tmp_path: Path
) -> None:
    film = listening.kitchen.folder / "held.mp4"
    other = ["--student", listening.recogniser]  # of the two, the last one counts
    cases = [
        (ask(film, teacher=tmp_path), "no listening teacher here"),
        (ask(film, teacher=tmp_path / "none"), "no listening teacher here"),
        (ask(film, teacher=listening.student), "no listening teacher here"),
        (ask(film, *other), "the listening teacher has weights for another student"),
    ]
    for (code, out, err), said in cases:
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith("Error: ")
        assert said in err
