"""What people and programs read of a command: tables, progress, warnings, JSON."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_commands import walk

from antcache.cli.common import log_to, print_table, progress_bars
from antcache.cli.main import cli, main
from antcache.cli.watching import ProgressLines

NAMES = ["action/many_shot_recall@5", "a name of many words that no terminal holds " * 3]


COMMANDS = [words for words, _ in walk(cli)]


@pytest.mark.parametrize("width", [60, 80, 132])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_numbers_are_whole_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, count: int
) -> None:
    """Every row of every column is there once, unbroken, beside its name and under its head."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    heads = [f"unseen participants {i}" for i in range(count)]
    cells = [[f"{row}{i}.34 [10.02, 14.99]" for i in range(count)] for row in range(2)]
    print_table("t", ["metric", *heads], [[n, *own] for n, own in zip(NAMES, cells, strict=True)])
    text = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    for own in cells:
        for cell in own:
            assert text.count(cell) == 1
    for head in heads:
        assert text.count(head) == 1
    for cell in cells[0]:
        (line,) = [line for line in lines if cell in line]
        assert NAMES[0] in line


def test_a_text_wider_than_the_terminal_is_folded_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    long = "".join(f"<{i:03}>" for i in range(60))
    print_table("t", ["video", "failed before", "x"], [["v.mp4", long, 1.5]])
    text = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, text.splitlines())) <= 80
    assert re.findall("<[0-9]{3}>", re.sub(r"v\.mp4|\s", "", text)) == re.findall("<[0-9]+>", long)
    assert "1.50" in text


def test_progress_without_a_terminal_is_a_line_for_each_video_epoch_or_minute() -> None:
    said: list[str] = []
    times = [0.0]
    lines = ProgressLines(said.append, lambda: times[0])
    for second in (1.0, 59.0, 61.0, 62.0, 120.0, 122.0):
        times[0] = second
        lines("training steps", second, 1e6)
    assert said == [
        "progress: training steps 61 of 1000000, about 277.8 h left",
        "progress: training steps 122 of 1000000, about 277.7 h left",
    ]
    said.clear()
    for done in (0, 1, 1, 2):
        lines("rgb: videos", done, 2)
        lines("rows", done * 1000, 4000)
    for part in (0.25, 0.5, 1.0, 1.5, 2.0):
        lines("fold 1 of 2: epochs", part, 2)
    assert said == [
        "progress: rgb: videos 1 of 2",
        "progress: rgb: videos 2 of 2",
        "progress: fold 1 of 2: epochs 1 of 2",
        "progress: fold 1 of 2: epochs 2 of 2",
    ]


def test_the_time_left_is_told_by_what_is_finest() -> None:
    """Videos are of any length; rows are alike. What begins anew is measured anew."""
    said: list[str] = []
    times = [0.0]
    lines = ProgressLines(said.append, lambda: times[0])
    for second, rows, videos in ((0, 0, 0), (10, 100, 0), (20, 200, 1), (40, 400, 2)):
        times[0] = second
        lines("a: rows", rows, 4000)
        lines("a: videos", videos, 3)
    lines("a: rows", 0, 100)
    times[0] = 41
    lines("a: rows", 50, 100)
    lines("a: videos", 3, 3)
    lines("b: videos", 1, 3)  # of which nothing finer is known
    assert said == [
        "progress: a: videos 1 of 3, about 6 min left",
        "progress: a: videos 2 of 3, about 6 min left",
        "progress: a: videos 3 of 3, about 1 s left",
        "progress: b: videos 1 of 3",
    ]


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as report:
        report("videos", 1, 3)
    assert capsys.readouterr() == ("", "progress: videos 1 of 3\n")


def test_warnings_of_the_library_are_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("antcache.student.training.training_data")
    with log_to(tmp_path / "log"):
        for level in (logging.INFO, logging.WARNING, logging.WARNING, logging.ERROR):
            log.log(level, "%s\nleft out", level)
    assert capsys.readouterr().err == "Warning: 30\\nleft out\n"
    assert len((tmp_path / "log").read_text().splitlines()) == 4


def test_words_before_the_command_are_judged_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["-q", "store", "info", "x"], ["--verbose"], ["submit", "s", "p"]):
        monkeypatch.setattr(sys, "argv", ["antcache", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert re.fullmatch(r"Error: [^\n\\]*--help\)\n", said), said


@pytest.mark.parametrize(("line", "code"), [("{} >&-", 0), ("{} | true", 1)])
def test_nobody_has_to_read(line: str, code: int) -> None:
    """The shell has closed the output, or who reads it stops."""
    command = f"'{sys.executable}' -m antcache student train --help"
    shell = f"set -o pipefail; {line.format(command)}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")


def test_every_command_has_json() -> None:
    for words, command in walk(cli):
        assert "as_json" in {option.name for option in command.params}, words


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("bad", ["--nonsense", "an argument too many"])
def test_errors_are_json_too(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: tuple[str, ...],
    bad: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["antcache", *words, "--json", *[bad] * 9])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert set(error) == {"type", "message", "exit_code"}
    assert ended.value.code == error["exit_code"] == 2
    assert error["message"] in err


def test_our_own_errors_are_json_with_their_class(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = []
    for json_too in (["--json"], []):
        line = ["antcache", "store", "info", str(tmp_path / "no\x1b.zarr"), *json_too]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit):
            main()
        lines.append(capsys.readouterr())
    with_json, without = lines
    assert without.out == ""
    assert with_json.err == without.err
    error = json.loads(with_json.out)["error"]
    assert error["type"] == "NotFound"
    assert with_json.err == f"Error: {error['message']}\n"
