"""Writers of hostile files, of which cases are made.

Promise: a writer changes one file of a kitchen (`specimens.py`), beside which lies a `victim/`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cases import InputCase
from hostile_videos import plant_victim
from specimens import copy_kitchen, words

Write = Callable[[Path], None]

NINES = "9" * 5000
DEEP = 100_000
EVIL = (
    "\x1b[31m[/red]\x9b2J\u202e]]><script>alert(1)</script>\u2028\x1b]52;c;aGk=\x07\nError: forged"
)


def case(name: str, write: Write, *commands: str) -> InputCase:
    """A kitchen that `write` has been in, beside a victim, and command lines of single words."""

    def make(folder: Path) -> list[list[str]]:
        copy_kitchen(folder)
        plant_victim(folder)
        write(folder)
        return [words(command) for command in commands]

    return InputCase(name=name, make=make)


def text(path: str, content: str) -> Write:
    """The file has another text."""

    def write(folder: Path) -> None:
        (folder / path).write_text(content, "utf-8", errors="surrogatepass")

    return write


def raw(path: str, content: bytes) -> Write:
    """The file has other bytes."""

    def write(folder: Path) -> None:
        (folder / path).write_bytes(content)

    return write


def pipe(path: str) -> Write:
    """The file is a named pipe, which who opens it waits for."""

    def write(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        os.mkfifo(folder / path)

    return write


def json_with(path: str, change: Callable[[dict[str, Any]], object]) -> Write:
    """A JSON file of the kitchen with something changed in it."""

    def write(folder: Path) -> None:
        content = json.loads((folder / path).read_text("utf-8"))
        change(content)
        (folder / path).write_text(json.dumps(content))

    return write


def link(path: str, target: str) -> Write:
    """The file is a link."""

    def write(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        (folder / path).symlink_to(target)

    return write


def apart(write: Write) -> Write:
    """The same by a process of its own: what it takes does not count as what a command takes."""

    def forked(folder: Path) -> None:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                write(folder)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0

    return forked
