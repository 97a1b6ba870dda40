"""What the library says names options that a command has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from cli_commands import walk

from antcache.cli.main import cli

OPTION = re.compile(r"(?<![\w-])--[a-z](?:[a-z-]*[a-z])?")
COMMAND = re.compile(rf"({OPTION.pattern}) of antcache ((?:[a-z]+ ?)+)")
OF_OTHERS = {"--query-gpu"}
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
