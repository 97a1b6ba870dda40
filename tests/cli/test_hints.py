"""What the library says names options that a command has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from cli_commands import walk

from antcache.cli.main import cli, in_options
from antcache.settings import settings_of
from antcache.student.config import StudentConfig

OPTION = re.compile(r"(?<![\w-])--[a-z](?:[a-z-]*[a-z])?")
COMMAND = re.compile(rf"({OPTION.pattern}) of antcache ((?:[a-z]+ ?)+)")
OF_OTHERS = {"--query-gpu", "--upgrade"}
"""Options of other programs that our words name."""


def words(file: Path) -> Iterator[str]:
    """The strings of a file that are no docstrings."""
    tree = ast.parse(file.read_text("utf-8"))
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.value


def options() -> dict[str, set[str]]:
    """The options of every command."""
    return {
        " ".join(names): {
            word for param in command.params for word in (*param.opts, *param.secondary_opts)
        }
        for names, command in walk(cli)
    }


def test_options_that_are_named_are_there(repo: Path) -> None:
    known = options()
    anywhere = {"--help", "--version"}.union(*known.values())
    seen, wrong = set(), []
    for folder in ("antcache", "cli", "kernels"):
        for file in sorted((repo / folder).rglob("*.py")):
            for text in words(file):
                named = set(OPTION.findall(text))
                seen |= named
                wrong += [(file.name, name) for name in named - anywhere - OF_OTHERS]
                wrong += [
                    (file.name, text)
                    for name, command in COMMAND.findall(text)
                    if name not in known[command.strip()]
                ]
    assert not wrong
    assert {"--allow-missing", "--overwrite", "--fill"} <= seen


SETTING = re.compile(r"`(\w+)`")


def test_settings_that_are_named_are_there(repo: Path) -> None:
    """In backticks, as a command that has an option of that name shows it.

    `feature` is an array of soft targets, `seeds` a key of a plan.
    """
    named = [
        name
        for part in ("student", "windows")
        for file in sorted((repo / "antcache" / part).rglob("*.py"))
        for text in words(file)
        for name in SETTING.findall(text)
    ]
    assert set(named) - set(settings_of(StudentConfig)) == {
        "feature",
        "seeds",
    }
    assert {"top_k", "allow_missing", "warmup_epochs"} <= set(named)


def test_a_setting_is_the_option_of_the_command_that_has_it() -> None:
    commands = {" ".join(names): command for names, command in walk(cli)}
    said = "cut `feature` to the k best: `top_k`, or `allow_missing`"
    for name, shown in {
        "student train": "cut `feature` to the k best: --top-k, or --allow-missing",
        "student predict": "cut `feature` to the k best: `top_k`, or --allow-missing",
        "student sweep": said,
    }.items():
        assert in_options(said, commands[name]) == shown
    assert in_options(said, None) == said


def test_settings_are_named_as_they_were_typed() -> None:
    """Also where a command calls what an option gives otherwise: `splits` is of --split."""
    otherwise = set()
    for _, command in walk(cli):
        flags = {
            param.name: {word for word in param.opts if word.startswith("--")}
            for param in command.params
        }
        spelled = {flag[2:].replace("-", "_"): flag for own in flags.values() for flag in own}
        for name, own in flags.items():
            if own and name:
                right = {spelled[name]} if name in spelled else own
                assert in_options(f"`{name}`", command) in right
                otherwise |= {name} - spelled.keys()
    assert {"splits", "gap_s"} <= otherwise
