"""What `--help` says of a command's arguments and options is what the command takes."""

from __future__ import annotations

import re

import click
import pytest
from cli_commands import walk

from antcache.cli.main import cli

COMMANDS = dict(walk(cli))
SHORT = {"AVT", "CPU", "GPU", "KL", "LMDB", "EPIC", "KITCHENS", "URL"}
"""Words that are written in capitals anywhere."""
PARTS = {"NAME", "SPLIT", "STREAM", "VIDEO", "FOLDER", "OUTPUT"}
"""Stand for a part of what is given: targets/NAME, rgb=FOLDER."""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_a_help_names_in_capitals_is_asked_for(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    context = click.Context(command)
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    assert len(set(arguments)) == len(arguments)
    asked = {w for p in command.params for w in re.findall("[A-Z]+", p.make_metavar(context))}
    named = set(re.findall(r"\b[A-Z]{2,}\b", command.help or ""))
    assert named <= asked | SHORT | PARTS


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_help_says_what_an_option_is_unless_given(words: tuple[str, ...]) -> None:
    """But for those that do nothing then: 0 and nothing."""
    for option in COMMANDS[words].params:
        given = isinstance(option, click.Option) and not option.is_flag and not option.multiple
        if given and isinstance(option.default, int | float | str) and option.default:
            record = option.get_help_record(click.Context(COMMANDS[words]))
            assert record is not None
            assert f"default: {option.default}" in record[1], option.name
