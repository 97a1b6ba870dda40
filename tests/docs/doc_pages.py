"""The code blocks of the pages that a user reads, and the commands in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in REPO.glob("docs/*.md")))
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
PROGRAMS = (
    "antcache",
    "docker",
    "make",
    "pip",
    "python",
    "python3",
    "python3.8",
    "torchrun",
    "for",
    "unzip",
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line that it begins on, its language and its text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Its lines, those that go on after a backslash joined."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


@dataclass(frozen=True)
class Command:
    """A command line as words, and what its page says that it prints."""

    page: str
    line: int
    words: tuple[str, ...]
    output: tuple[str, ...] = ()

    def __str__(self) -> str:
        return shlex.join(self.words)


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = (REPO / page).read_text("utf-8")
    for found in FENCE.finditer(text):
        line = text[: found.start()].count("\n") + 1
        yield Block(page, line, found[2], textwrap.dedent(found[3]))


def commands(page: str) -> Iterator[Command]:
    """The command lines of a page's `sh` and `console` blocks, in order."""
    for block in blocks(page):
        if block.language == "sh":
            for line in block.lines:
                yield Command(page, block.line, tuple(shlex.split(line, comments=True)))
        elif block.language == "console":
            parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
            for part in parts[1:]:
                line, *output = part.splitlines()
                yield Command(page, block.line, tuple(shlex.split(line)), tuple(output))


def unfenced_commands(page: str) -> list[str]:
    """Indented lines outside of fenced blocks that look like a command."""
    rest = FENCE.sub("", (REPO / page).read_text("utf-8"))
    lines = re.findall(r"^ {4,}(?:\$ )?(\S+)(.*)$", rest, re.MULTILINE)
    return [first + more for first, more in lines if first in PROGRAMS]
