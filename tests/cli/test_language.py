"""One language: what every command's help has, and the same name for the same thing everywhere."""

from __future__ import annotations

import re
import shlex
from typing import Any

import click
import pytest
from cli_commands import walk
from click.testing import CliRunner

from antcache.cli.command import Command
from antcache.cli.lazy import LazyGroup
from antcache.cli.main import cli
from antcache.cli.numbers import Number, Several

COMMANDS = {" ".join(words): command for words, command in walk(cli)}
each_command = pytest.mark.parametrize("name", COMMANDS)

OF_CONFIG = ("student train", "student recognise")
"""Their options are made from the fields of `StudentConfig`, with the words that stand there."""

DIFFER = {
    "--annotations": "the doctor takes a set and its folder, the lexicon a folder of class files",
    "--at": "which rows a stream has, or the times of a video that are asked about",
    "--batch-size": "rows of a stream, or texts",
    "--dtype": "int8 is for tokens, which nothing imports",
    "--fill": "of missing pictures, or a rule for gaps between rows",
    "--folds": "a teacher's are in-sample with 0, a mixture's never",
    "--form": "how a language model is asked, or how files are written",
    "--format": "of a new store, or of a student that is handed on",
    "--fps": "of the rows that are made, or of the times in a table",
    "--held-out": "a split for the temperature, or a partition for the perplexity",
    "--history": "of a teacher made by others it may be unknown",
    "--labels": "of the videos, or for the classes of an old run alone",
    "--layout": "how files lie, which may tell itself, or how they are written",
    "--model": "a teacher's, or the one that is adapted",
    "--name": "of soft targets, or of a dataset",
    "--output": "says what is written",
    "--quick": "rows are not read, or few shapes are measured",
    "--split": "the doctor looks at several",
    "--steps": "of a training, or next actions that are said",
    "--store": "of which the classes are, or the features too",
    "--stream": "one that is written or exported, or several that are there",
    "--stride": "frames between windows, or seconds between inputs",
    "--teacher": "one that is trained, or one that listens already",
    "--tokens": "extraction may keep them all; a stream is pooled to a grid",
    "--video": "that a timeline is of, or the film that is written",
}
"""Options whose words or types differ between commands, and why."""


def options(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option)]


def long_name(option: click.Option) -> str:
    return max(option.opts, key=len)


def kind(taken: Any) -> Any:
    """A type, as far as what it takes is concerned."""
    if isinstance(taken, Several):
        return ("several", kind(taken.kind))
    if isinstance(taken, Number):
        return taken.expected
    return tuple(taken.choices) if isinstance(taken, click.Choice) else type(taken)


@each_command
def test_a_command_says_how_it_is_used_and_what_then(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    text = command.get_help(click.Context(command, info_name=f"antcache {name}"))
    output, _, rest = text.partition("\nOutput:\n")[2].partition("\n\n")
    assert re.findall(r"--[a-z]+", output) == ["--json", "--verbose", "--quiet", "--help"]
    assert re.findall("^([A-Z].*):$", rest, re.M) == ["Example", "Next", "After Ctrl-C"]


@each_command
def test_the_example_is_one_of_the_command_and_parses(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    lines = command.example.splitlines()
    assert 1 <= len(lines) <= 2
    for line in lines:
        assert len(line) <= 98
        words = shlex.split(line)
        own = ["antcache", *name.split()]
        assert words[: len(own)] == own
        command.make_context(name, words[len(own) :])


@each_command
def test_what_comes_next_is_there(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Command)
    for text, least in ((command.then, 1), (command.goes_on, 0)):
        named = re.findall(r"`antcache ((?:[a-z]+ ?)+)", text)
        assert {words.strip() for words in named} <= set(COMMANDS)
        assert len(named) >= least
        assert text.endswith(".")


@each_command
def test_every_option_has_help(name: str) -> None:
    for option in options(COMMANDS[name]):
        assert option.help, option.name
        assert option.help.endswith((".", "]"))


def test_one_name_is_one_thing() -> None:
    found: dict[str, dict[Any, list[str]]] = {}
    for name, command in COMMANDS.items():
        for option in options(command) if name not in OF_CONFIG else ():
            meaning = (option.help, kind(option.type), option.multiple, tuple(option.opts))
            found.setdefault(long_name(option), {}).setdefault(meaning, []).append(name)
    assert {name for name, meanings in found.items() if len(meanings) > 1} == set(DIFFER)


def test_devices_are_auto_unless_something_else_is_asked_for() -> None:
    for name, command in COMMANDS.items():
        for option in options(command):
            if "--device" in option.opts and name not in OF_CONFIG:
                assert option.get_default(click.Context(command)) == "auto", name


@each_command
def test_what_is_required_is_asked_for(name: str) -> None:
    """A default of None would be one."""
    command = COMMANDS[name]
    arguments = [a for a in command.params if isinstance(a, click.Argument) and a.required]
    needed = [option for option in options(command) if option.required]
    words = {option: [long_name(option), *value(option)] for option in needed}
    for left_out in needed:
        line = [word for option in needed if option is not left_out for word in words[option]]
        with pytest.raises(click.MissingParameter) as refused:
            command.make_context(name, [*("x" for _ in arguments), *line])
        assert refused.value.param is left_out


def value(option: click.Option) -> list[str]:
    return [option.type.choices[0] if isinstance(option.type, click.Choice) else "1"]


@each_command
def test_a_slip_is_answered_with_the_command_that_is_meant(name: str) -> None:
    *group, last = name.split()
    for slip in (f"{last}x", last.upper(), last[:-1]):
        done = CliRunner().invoke(cli, [*group, slip])
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
        assert f"did you mean {last}?" in done.stderr


def test_what_is_like_nothing_is_answered_with_all_that_is_there() -> None:
    group = cli.get_command(click.Context(cli), "store")
    assert isinstance(group, LazyGroup)
    done = CliRunner().invoke(cli, ["store", "zzz"])
    assert f"there are {', '.join(group.table)} (cli store --help)" in done.stderr


def test_names_are_given_again_or_with_commas() -> None:
    command = COMMANDS["store doctor"]
    words = ["x", "--stream", "rgb,flow", "--stream", "obj", "--split", "a"]
    params = command.make_context("doctor", words).params
    assert params["streams"] == ("rgb", "flow", "obj")
    assert (params["splits"], params["targets"]) == (("a",), ())
