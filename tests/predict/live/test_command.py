"""`antcache watch`: what it says while it watches, how it ends, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import live_servers
import pytest
from predict_kitchen import Kitchen

from antcache.cli.common import live_bars
from antcache.cli.main import main

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(student: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Function: runs the command; exit code, stdout and stderr."""

    def asked(source: object, *words: object, run: Path = student) -> tuple[int, str, str]:
        line = ["antcache", "watch", str(source), "--student", str(run), *map(str, words)]
        monkeypatch.setattr(sys, "argv", [*line, "--device", "cpu"])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err  # type: ignore[return-value]

    return asked


def test_without_a_terminal_an_answer_is_a_line(ask: Ask, made: Kitchen) -> None:
    code, out, err = ask(made.folder / "held.mp4", "--speed", 8, "--top", 2)
    assert (code, err) == (0, "")
    *answers, end = out.splitlines()
    for line in answers:
        assert re.fullmatch(
            r"[\d.]+ s: in 0\.5 s, \w+ \w+ \d+ %, \w+ \w+ \d+ %; delay \d+ ms, frames \d+, "
            r"dropped rows \d+(, stand-ins \d+)?",
            line,
        ), line
    assert len(answers) > 5
    assert re.search(
        rf"held\.mp4: {len(answers)} answers in [\d.]+ s, the last at 8\.0 s; "
        r"delay \d+ ms \(95 %: \d+ ms\); 161 frames, \d+ of 33 rows dropped$",
        end,
    ), end


def test_answers_are_lines_of_json(ask: Ask, made: Kitchen) -> None:
    code, out, err = ask(made.folder / "held.mp4", "--speed", 8, "--json")
    assert (code, err) == (0, "")
    *answers, end = [json.loads(line) for line in out.splitlines()]
    for each in answers:
        assert set(each) == {"time_s", "top", "delay_s", "stand_ins", "dropped", "frames"}
        assert [set(one) for one in each["top"]] == [{"action", "name", "probability"}] * 4
    summary = end["summary"]
    assert summary["answers"] == len(answers)
    assert summary["rows"] == 33
    assert summary["frames"] == 161
    assert summary["delay_s"] <= summary["delay_p95_s"]


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_ctrl_c_says_what_was_seen(ask: Ask, made: Kitchen, more: tuple[str, ...]) -> None:
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    code, out, err = ask(made.folder / "even.mp4", "--speed", 0.5, *more)
    timer.join()
    assert code == 130
    assert err == "interrupted: nothing was kept; give the same command again to watch on.\n"
    if more:
        lines = [line for line in out.splitlines() if line.startswith('{"summary"')]
        assert json.loads(lines[0])["summary"]["frames"] > 0
    else:
        assert re.search(r"even\.mp4: \d+ answers in [\d.]+ s", out.splitlines()[-1])
    assert not [t for t in threading.enumerate() if t.name.startswith("antcache")]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def sent(port: int) -> Iterator[str]:
    """The events of a page that is about to be served, as they come."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as asked:
        for _ in range(200):
            try:
                asked.connect()
                break
            except OSError:
                threading.Event().wait(0.05)
        asked.request("GET", "/events")
        for line in asked.getresponse():
            yield line.decode()


def test_a_camera_in_the_network_and_a_page(ask: Ask, tmp_path: Path, free_port: int) -> None:
    """From pictures of a server to events of another, each in real time."""
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(sent(free_port)))
    reader.start()
    with live_servers.serving(tmp_path) as (url, _):
        code, out, err = ask(f"{url}/camera?key=secret", "--serve", free_port)
    reader.join(20)
    assert not reader.is_alive()
    page, error = err.splitlines()
    assert page == f"note: the page is at http://127.0.0.1:{free_port}/"
    assert re.fullmatch(r"Error: http://127.*/camera: it broke off: found .*", error)
    assert code == 2  # a camera has no end
    assert "secret" not in out + err
    *answers, end = out.splitlines()
    assert len(answers) >= 5
    assert f"/camera: {len(answers)} answers in" in end
    kinds = [line.split()[1] for line in lines if line.startswith("event")]
    assert kinds[0] == "about"
    assert kinds[-1] == "end"
    data = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert data[0]["source"].endswith("/camera")
    assert data[0]["when"] == "in 0.5 s"
    told = [*data[0]["past"], *data[1:-1]]
    assert told[-1]["top"][0]["probability"] > 0
    assert str(told[-1]["time_s"]).startswith(answers[-1].partition(" s:")[0][:4])
    assert data[-1]["text"] in end


def test_what_can_not_be_watched_is_one_line(
    ask: Ask, made: Kitchen, tmp_path: Path, free_port: int
) -> None:
    film = made.folder / "held.mp4"
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        cases: list[tuple[tuple[object, ...], str]] = [
            (("nowhere.mp4",), "nowhere.mp4: nothing to watch"),
            (("873",), "873"),
            ((tmp_path,), "found a folder"),
            ((text,), "not a video that can be opened"),
            (("http://127.0.0.1:9/x",), "can't be reached (Connection refused)"),
            (("rtsp://127.0.0.1:9/x",), "can't be reached (Connection refused)"),
            (("ftp://a/b",), "no URL that can be watched"),
            ((film, "--serve", free_port), f"127.0.0.1:{free_port}: the port is in use"),
            ((film, "--serve", "0.0.0.0:1"), "--serve is for this machine alone"),
            ((film, "--host", "0.0.0.0"), "--host is for the page: expected --serve as well"),
            ((film, "--speed", 0), "impossible --speed"),
            ((film, "--backbone", tmp_path), str(tmp_path)),
        ]
        results = [(words, ask(*words), said) for words, said in cases]
    results.append((("no run",), ask(film, run=tmp_path / "none"), "none"))
    for words, (code, out, err), said in results:
        assert code == 2, (words, err)
        assert (out, err.count("\n")) == ("", 1), (words, out, err)
        assert err.startswith("Error: "), words
        assert said in err, (words, err)


class Terminal(io.StringIO):
    """Text that says it is shown on one."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_bars_are_drawn_over_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "60", "LINES": "20"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    with live_bars() as show:
        assert show is not None
        for share in (0.25, 0.75):
            bars = [("take \x1b[31mpan", share), ("[bold]cut", 1 - share)]
            show("camera 0, 1.5 s", bars, "delay 35 ms")
    said = screen.getvalue()
    assert said.count("camera 0, 1.5 s") >= 2
    assert "\x1b[1A" in said  # the cursor goes up: the second stands where the first did
    assert r"take \x1b[31mpan" in said
    assert "[bold]cut" in said
    assert "75%" in said
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", said).splitlines()
    assert max(len(line.rpartition("\r")[2]) for line in lines) <= 60
    bars_of = {line.split()[0]: line.count("━") for line in lines if "━" in line}
    assert set(bars_of) == {"take", "[bold]cut"}


def test_what_is_no_terminal_has_no_bars() -> None:
    with live_bars() as show:
        assert show is None
