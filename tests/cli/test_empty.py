"""Words that are empty, as `"$UNSET"` is, given to every argument and option that takes a text."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_commands import walk

from antcache.cli.main import cli, main
from antcache.errors import BadConfig
from antcache.store import Store
from antcache.store.location import parse_location


def texts() -> Iterator[tuple[tuple[str, ...], click.Command, click.Parameter]]:
    """Every parameter that takes a text or a path."""
    for words, command in walk(cli):
        for param in command.params:
            switch = isinstance(param, click.Option) and (param.is_flag or param.count)
            if not switch and not hasattr(param.type, "expected"):
                yield words, command, param


def given(command: click.Command, param: click.Parameter) -> list[str]:
    """Words of a command that give `param` nothing but an empty text."""
    empty = [""] * max(1, param.nargs)
    if isinstance(param, click.Option):
        return [param.opts[0], *empty]
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    return [word for each in arguments for word in (empty if each is param else ["x"])]


TEXTS = list(texts())


def test_they_are_many() -> None:
    paths = [param for _, _, param in TEXTS if isinstance(param.type, click.Path)]
    arguments = [param for _, _, param in TEXTS if isinstance(param, click.Argument)]
    assert len(TEXTS) > 150
    assert len(paths) > 30
    assert len(arguments) > 40


@pytest.mark.parametrize(
    ("words", "command", "param"),
    TEXTS,
    ids=[f"{' '.join(words)} {param.opts[0]}" for words, _, param in TEXTS],
)
def test_an_empty_word_is_one_line(
    words: tuple[str, ...],
    command: click.Command,
    param: click.Parameter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["antcache", *words, *given(command, param)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    name = param.opts[0] if isinstance(param, click.Option) else param.metavar or param.name.upper()
    assert (ended.value.code, out) == (2, "")
    assert err.startswith(f"Error: impossible {name}: expected a text that is not empty, found ''")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "file://", "local://"])
def test_in_the_library(text: str) -> None:
    with pytest.raises(BadConfig, match=r"a path that is empty.*\(here is \.\)"):
        parse_location(text)
    with pytest.raises(BadConfig, match="a path that is empty"):
        Store.open(text)
