"""The tables of README and docs, links and folders; the commands are run in tests/docs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from click.testing import CliRunner

from antcache.cli.main import COMMANDS, cli
from antcache.teacher.base import parse_settings


def test_tables_are_what_the_results_say(repo: Path) -> None:
    code = subprocess.run(
        [sys.executable, repo / "benchmarks/tables.py", "--check"], capture_output=True, text=True
    )
    assert code.returncode == 0, code.stderr


def test_teachers_of_the_table_say_their_options(
    repo: Path, benchmark: Callable[[str], ModuleType]
) -> None:
    """Each row, and the note for the language teacher, has what the benchmark trains with."""
    text = (repo / "docs/teachers.md").read_text("utf-8")
    members = benchmark("teachers").MEMBERS
    table = text.partition("<!-- table: teachers -->")[2].partition("<!-- end -->")[0]
    told = re.findall(r"^\| (count|sequence) `(--set [^`]+)`", table, re.MULTILINE)
    told += [("language", words) for words in re.findall(r"with `(--set [^`]+)`", table)]
    for kind, words in told:
        settings = parse_settings(kind, words.replace("--set ", "").split())
        assert settings == {k: v for k, v in members[kind].items() if k != "model"}
    kinds = [kind for kind, _ in told]
    assert {kind: kinds.count(kind) for kind in members} == {
        "count": table.count("| count "),
        "sequence": table.count("| sequence "),
        "language": 1,
    }


def test_every_command_and_folder_is_there(repo: Path) -> None:
    text = (repo / "README.md").read_text("utf-8")
    for page in re.findall(r"\]\((docs/[^)]+)\)", text):
        assert (repo / page).is_file(), page
    for folder in re.findall(r"^\| `([a-z/]+)/`", text, re.MULTILINE):
        assert (repo / folder).is_dir(), folder
    for name in COMMANDS:
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0, name
