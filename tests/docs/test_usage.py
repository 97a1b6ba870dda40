"""What the pages say of a command's options is what the command takes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import click
import doc_pages
import pytest
from doc_pages import PAGES, REPO

from antcache.cli.main import cli


def usages() -> Iterator[tuple[str, str]]:
    """Page and text of each command of the `usage` blocks."""
    for page in PAGES:
        for block in doc_pages.blocks(page):
            if block.language == "usage":
                for text in re.split(r"^(?=antcache )", block.text, flags=re.MULTILINE):
                    if text.strip():
                        yield page, re.sub(r"\s#.*", "", text)


def find(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words behind `antcache` begin with, and the words behind its name."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize(("page", "text"), list(usages()))
def test_options_are_the_commands_own(page: str, text: str) -> None:
    command, _ = find(text.split()[1:])
    taken = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", text))
    assert named <= taken, page


@pytest.mark.parametrize(("page", "text"), list(usages()))
def test_arguments_are_called_as_in_the_help(page: str, text: str) -> None:
    command, words = find(text.split()[1:])
    named = itertools.takewhile(lambda word: not word.lstrip("[\\").startswith("-"), words)
    options, *arguments = command.collect_usage_pieces(click.Context(command))
    assert options == "[OPTIONS]"
    assert [*named] == arguments, page


def test_every_mention_of_torchrun_is_the_documented_one() -> None:
    """It takes `--run` for its own unless a `--` stands before the command."""
    folders = ("antcache", "cli", "docs")
    files = [file for folder in folders for file in (REPO / folder).rglob("*.[pm][yd]")]
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    starts = [line.strip() for line in lines if line.strip().startswith("torchrun --")]
    assert len(starts) >= 3
    assert {re.sub(r"\d+|\bN\b", "N", line).split(" student ")[0] for line in starts} == {
        "torchrun --nproc-per-node N --no-python -- antcache"
    }
