"""The README's tables, links and folders; its commands are run in tests/docs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from antcache.cli.main import COMMANDS, cli


def test_tables_are_what_the_results_say(repo: Path) -> None:
    code = subprocess.run(
        [sys.executable, repo / "benchmarks/tables.py", "--check"], capture_output=True, text=True
    )
    assert code.returncode == 0, code.stderr


def test_every_command_and_folder_is_there(repo: Path) -> None:
    text = (repo / "README.md").read_text("utf-8")
    for page in re.findall(r"\]\((docs/[^)]+)\)", text):
        assert (repo / page).is_file(), page
    for folder in re.findall(r"^\| `([a-z/]+)/`", text, re.MULTILINE):
        assert (repo / folder).is_dir(), folder
    for name in COMMANDS:
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0, name
