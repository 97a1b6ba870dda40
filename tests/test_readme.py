"""The README's tour: its commands run as printed, on a small kitchen instead of EPIC-KITCHENS."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from antcache.cli.main import COMMANDS, cli
from antcache.demo.kitchen import KitchenConfig
from antcache.demo.run import DemoConfig, Steps, build_store

INSTEAD = {
    "epic-kitchens-55": "table",
    "annotations/": "labels/",
    "facebook/dinov2-base": "backbone",
}
SMALLER = {"teacher": ["--epochs", "1"], "student": ["--epochs", "1"]}


def tour(repo: Path) -> list[list[str]]:
    """The `antcache` commands of the README's first shell block, as words."""
    block = re.search(r"```sh\n(.*?)```", (repo / "README.md").read_text("utf-8"), re.DOTALL)
    assert block
    lines = [shlex.split(line) for line in block[1].splitlines()]
    return [words[1:] for words in lines if words[0] == "antcache"]


@pytest.mark.slow
def test_the_tour_works_as_printed(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DemoConfig(kitchen=KitchenConfig(train_videos=6, validation_videos=2, scripts=1))
    build_store(tmp_path, config, Steps())  # for its videos, labels and backbone
    monkeypatch.chdir(tmp_path)
    commands = tour(repo)
    assert [words[0] for words in commands] == [
        "annotations",
        "extract",
        "teacher",
        "student",
        "evaluate",
    ]
    for words in commands:
        words = [INSTEAD.get(word, word) for word in words] + SMALLER.get(words[0], [])
        result = CliRunner().invoke(cli, [*words, "--json"])
        assert result.exit_code == 0, (words, result.output)
        json.loads(result.stdout)


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
