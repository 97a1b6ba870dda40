"""What the system refuses ends a command with one line; an unwritable log ends nothing."""

from __future__ import annotations

import errno
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from antcache.cli.common import log_to
from antcache.cli.main import cli, reason
from antcache.store import Store


def test_log_on_a_full_disk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One line says so, and the work goes on."""
    log = tmp_path / "log"
    logger = logging.getLogger("antcache.test")
    with log_to(log):
        logger.info("fits %s", "." * 10_000)  # the limit is for what pytest writes, too
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, hard))
        try:
            for number in range(3):
                logger.info("message %d", number)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        logger.info("room again")
    text = log.read_text()
    assert "fits" in text
    assert f" {os.getpid()} INFO antcache.test: room again" in text
    assert capfd.readouterr().err == f"Warning: {log}: File too large; the log is incomplete\n"
    with log_to(Path("/dev/full")):
        logger.info("lost")
    assert capfd.readouterr().err == (
        "Warning: /dev/full: No space left on device; the log is incomplete\n"
    )


def test_a_log_whose_folder_goes_as_it_is_opened(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that had made it and is refused: nothing is lost."""
    log, usual, gone = tmp_path / "run" / "log.txt", Path.mkdir, []

    def made_and_gone(path: Path, *given: Any, **named: Any) -> None:
        usual(path, *given, **named)
        if path == log.parent and not gone:
            gone.append(path.rmdir())

    monkeypatch.setattr(Path, "mkdir", made_and_gone)
    with log_to(log):
        logging.getLogger("antcache.test").info("kept")
    assert "INFO antcache.test: kept" in log.read_text()
    assert gone
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a.bin"),
            "a.bin: No space left on device",
        ),
        (PermissionError(errno.EACCES, "Permission denied", b"a"), "a: Permission denied"),
        (OSError(errno.EXDEV, "Invalid link", "a", None, "b"), "a -> b: Invalid link"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("one\ntwo"), "one two"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_system_errors_are_one_line(
    error: OSError, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise error

    monkeypatch.setattr(Store, "open", broken)
    result = CliRunner().invoke(cli, ["store", "info", "s"])
    assert (result.exit_code, result.stderr) == (2, f"Error: {line}\n")
    assert reason(error) == line


def test_mistakes_of_ours_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Store, "open", broken)
    result = CliRunner().invoke(cli, ["store", "info", "s"])
    assert isinstance(result.exception, RuntimeError)


def test_nobody_reads_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`antcache ... | head` ends without a word."""
    code = "from antcache.cli.main import main; main()"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", code, "--help"]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, "")
