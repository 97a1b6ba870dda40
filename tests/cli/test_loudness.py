"""-q leaves results and errors, -v adds what the library logs; Ctrl-C ends in one line."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_commands import walk
from click.testing import CliRunner, Result

from antcache.cli.command import Command
from antcache.cli.main import cli, main
from antcache.errors import WriteFailed

COMMANDS = {" ".join(words): command for words, command in walk(cli)}
TRAIN = ("teacher", "train", "store", "--name", "y", "--kind", "sequence", "--epochs", "1")


@pytest.fixture
def kitchen(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one's own with a `store`, in which commands run."""
    shutil.copytree(labelled / "store", tmp_path / "store")
    monkeypatch.chdir(tmp_path)


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, list(words))
    assert result.exit_code == code, result.output
    return result


def untimed(text: str) -> list[str]:
    """The lines of a result that do not tell how long it took."""
    return [line for line in text.splitlines() if not line.startswith("teacher ")]


def test_a_training_is_as_loud_as_is_asked(kitchen: None) -> None:
    usual = run(*TRAIN)
    assert "progress: " in usual.stderr
    assert "info: antcache." not in usual.stderr
    quiet = run(*TRAIN, "--overwrite", "-q")
    assert quiet.stderr == ""
    loud = run(*TRAIN, "--overwrite", "--verbose")
    assert "info: antcache.teacher." in loud.stderr
    assert "progress: " in loud.stderr
    assert untimed(usual.stdout) == untimed(quiet.stdout) == untimed(loud.stdout)
    assert logging.getLogger("antcache").handlers == []


def test_warnings_are_said_once_and_left_out_when_quiet() -> None:
    words = ("student", "weight", "--paper", "150@T10/C10")
    usual, quiet, loud = (run(*words, *more) for more in ((), ("--quiet",), ("-v",)))
    assert usual.stderr.startswith("Warning: ")
    assert usual.stderr == loud.stderr
    assert quiet.stderr == ""
    assert usual.stdout == quiet.stdout == loud.stdout


@pytest.mark.parametrize(("more", "times"), [((), 1), (("-q",), 0), (("-v",), 1)])
def test_what_the_library_warns_of_is_said_once(
    kitchen: None, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], times: int
) -> None:
    """By a log that a command keeps, or by Python's warnings."""
    from antcache.cli import main as entry
    from antcache.store.integrity import repair

    def odd(*_: object, **__: object) -> None:
        logging.getLogger("antcache.store").warning("odd")
        entry._warn("strange")
        raise FileNotFoundError("gone")

    monkeypatch.setattr(warnings, "showwarning", entry._warn)
    monkeypatch.setattr(repair, "repair", odd)
    refused = run("store", "repair", "store", *more, code=2)
    assert refused.stderr.count("odd") == refused.stderr.count("strange") == times
    assert "Error: gone" in refused.stderr


def test_errors_are_said_however_quiet() -> None:
    assert "no store here" in run("store", "info", "nowhere", "-q", code=2).stderr


def test_loud_and_quiet_exclude_each_other() -> None:
    refused = run("store", "info", "nowhere", "-q", "-v", code=2)
    assert "--verbose and --quiet exclude each other" in refused.stderr


def stop(**_: object) -> None:
    raise KeyboardInterrupt


def stop_and_fail_to_clear_away(**_: object) -> None:
    try:
        stop()
    except KeyboardInterrupt:
        try:
            os.close(-1)
        except OSError as error:
            raise WriteFailed.because(error, "kitchen.zarr") from error


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("as_json", "callback"), [(False, stop), (True, stop), (False, stop_and_fail_to_clear_away)]
)
def test_an_interrupt_is_one_line_that_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    as_json: bool,
    callback: Callable[..., None],
) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    monkeypatch.setattr(command, "callback", callback)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    words = shlex.split(command.example.splitlines()[0])
    monkeypatch.setattr(sys, "argv", [*words, *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    out, err = capsys.readouterr()
    line = f"interrupted: {command.goes_on}"
    assert err == f"{line}\n"
    expected = {"type": "KeyboardInterrupt", "message": line, "exit_code": 130}
    assert (json.loads(out) == {"error": expected}) if as_json else not out
