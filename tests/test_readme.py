"""The tables of README and docs, links and folders; the commands are run in tests/docs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from antcache.cli.main import COMMANDS, cli
from antcache.teacher.base import parse_settings


def test_tables_are_what_the_results_say(repo: Path) -> None:
    code = subprocess.run(
        [sys.executable, repo / "benchmarks/tables.py", "--check"], capture_output=True, text=True
    )
    assert code.returncode == 0, code.stderr


def test_dates_are_those_of_the_figures_that_a_table_takes(
    benchmark: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = benchmark("table_records")
    dates = {"a": "2026-01-03", "b": "2026-01-01", "c": "2026-01-02"}
    made = {"device": "CPU", "value": 1.0, "spread": None, "versions": {"torch": "2"}}
    results = tmp_path / "benchmarks/results"
    results.mkdir(parents=True)
    text = json.dumps([{"figure": name, "date": date, **made} for name, date in dates.items()])
    (results / "some.json").write_text(text)
    monkeypatch.setattr(tables, "ROOT", tmp_path)

    def said(*taken: str) -> str:
        found = tables.records("some")
        for name in taken:
            tables.value(found[name])
        source: str = tables.source(found, "some")
        return source.removeprefix("`benchmarks/some.py`, CPU, torch 2, ")

    assert said("c") == "2026-01-02."
    assert said("a", "b") == "2026-01-01 to 2026-01-03."
    assert said() == "2026-01-01 to 2026-01-03."


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


def test_the_count_row_is_what_its_options_give(repo: Path, data_dir: Path, tmp_path: Path) -> None:
    """The options of its row, on the labels that it names, give its figures."""
    text = (repo / "docs/teachers.md").read_text("utf-8")
    row = re.search(r"^\| count `([^`]+)` \| complete \| (.+) \|$", text, re.MULTILINE)
    assert row
    store = tmp_path / "ek55.zarr"

    def antcache(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    labels = str(data_dir / "epic-kitchens-55")
    antcache("annotations", "import", "epic-kitchens-55", labels, str(store))
    said = antcache(
        *("teacher", "train", str(store), "--name", "count", "--kind", "count"),
        *(*row[1].split(), "--folds", "0", "--top-k", "5"),
    )
    figures = said["metrics"]["validation"]
    names = ("action/top1", "action/top5", "action/many_shot_recall@5")
    assert [f"{figures[name]:.1f}" for name in names] == row[2].split(" | ")


MEANT = {
    "antcache/student/last.py",  # a head of one's own, once it is saved
    "benchmarks/NAME.py",
    "tests/benchmarks/test_NAME.py",
    "benchmarks/work/distillation",  # is made
    "tests/__init__.py",  # is said not to be there
}
"""Names in the docs of what is not in the checkout."""


def test_files_that_the_docs_name_are_there(repo: Path) -> None:
    pages = [*repo.glob("*.md"), *(repo / "docs").rglob("*.md")]
    path = re.compile(r"`((?:antcache|benchmarks|cli|docs|kernels|tests)/[\w./-]+)`")
    named = {name for page in pages for name in path.findall(page.read_text("utf-8"))}
    assert {name for name in named if not (repo / name).exists()} <= MEANT
    assert named >= MEANT


def test_every_command_and_folder_is_there(repo: Path) -> None:
    text = (repo / "README.md").read_text("utf-8")
    for page in re.findall(r"\]\((docs/[^)]+)\)", text):
        assert (repo / page).is_file(), page
    for folder in re.findall(r"^\| `([a-z/]+)/`", text, re.MULTILINE):
        assert (repo / folder).is_dir(), folder
    for name in COMMANDS:
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0, name
