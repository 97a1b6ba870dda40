"""No benchmark goes unrun: each has a test that runs it in small.

A benchmark is a file of `benchmarks/` that can be run; its test is `test_NAME.py` in this folder or
one of its rooms.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

ELSEWHERE = {
    "mutation_worker": "tests/benchmarks/test_mutation.py",
    "reads_others": "tests/benchmarks/reading/test_reads.py",
    "tables": "tests/test_readme.py",
}
"""Tests of another name, or of another folder, that run one."""


def can_be_run(file: Path) -> bool:
    """Whether it does something when Python is given its name."""
    return any(
        isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        for node in ast.parse(file.read_text("utf-8")).body
    )


def test_every_benchmark_has_a_small_run(repo: Path) -> None:
    names = [file.stem for file in (repo / "benchmarks").glob("*.py") if can_be_run(file)]
    assert "reads" in names
    unrun = []
    for name in sorted(names):
        elsewhere = repo / ELSEWHERE.get(name, "")
        file = next(Path(__file__).parent.rglob(f"test_{name}.py"), elsewhere)
        if not file.is_file() or name not in file.read_text("utf-8"):
            unrun.append(name)
    assert not unrun


def test_make_bench_runs_what_records(repo: Path) -> None:
    """The Makefile finds benchmarks by this line; a file that says it otherwise would be missed."""
    for file in (repo / "benchmarks").glob("*.py"):
        text = file.read_text("utf-8")
        assert ('add_argument("--record"' in text) == ("--record" in text.split('"""')[1]), file


def test_recorded_commands_can_be_run_again(repo: Path) -> None:
    """Their benchmarks are there, and take the options."""
    commands = {
        command
        for file in (repo / "benchmarks/results").glob("*.json")
        for record in json.loads(file.read_text("utf-8"))
        if (command := isinstance(record, dict) and record.get("command"))
    }
    assert len(commands) > 20
    for command in commands:
        python, script, *words = command.split()
        assert python == "python"
        calls = ast.walk(ast.parse((repo / script).read_text("utf-8")))
        taken = {
            word.value
            for call in calls
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("add_argument")
            for word in call.args
            if isinstance(word, ast.Constant)
        }
        assert {word for word in words if word.startswith("--")} <= taken, command
