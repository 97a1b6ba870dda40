"""A Ray cluster trains the members that one process trains one by one."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors import safe_open

from antcache.cli.main import cli
from antcache.store import Store

PLAN = """
base: {head: light, width: 16, epochs: 1, batch_size: 16, device: cpu}
seeds: [0, 1]
settings:
  plain: {}
  wild: {optimizer: sgd, lr: 1.0e+6, grad_clip: null, warmup_epochs: 0.0}
"""
WHEN = ("seconds", "date", "started", "ended", "at")
"""Fields that no two runs have in common."""


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, ["student", "sweep", *map(str, arguments)])


def timeless(value: Any) -> Any:
    """JSON without what says when it was."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not any(w in k for w in WHEN)}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """What is in the folder of a run, by name: JSON, and arrays as bytes beside what is said of
    them."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix in (".json", ".jsonl"):
            lines = path.read_text("utf-8").splitlines() if path.suffix == ".jsonl" else None
            texts = [path.read_text("utf-8")] if lines is None else lines
            found[name] = [timeless(json.loads(text)) for text in texts]
        elif path.suffix == ".safetensors":
            with safe_open(path, "numpy") as file:
                arrays = {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118
                found[name] = file.metadata(), arrays
        elif "tfevents" not in name:
            found[name] = path.is_dir()
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_members_and_table_are_those_of_one_process(
    make_store: Callable[..., Store], tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command of the page. To the bit, and one whose loss is not finite is named."""
    store = make_store()
    page = (repo / "docs/clusters.md").read_text("utf-8")
    (line,) = re.findall(r"^antcache student sweep (.*--engine ray.*)$", page, re.MULTILINE)
    instead = {"STORE": store.path, "PLAN.yaml": "plan.yaml", "RUNS": "runs"}
    words = [instead.get(word, word) for word in line.split()]
    said = []
    for folder, end in (("here", words.index("--engine")), ("there", len(words))):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)  # relative names mean the same everywhere
        Path("plan.yaml").write_text(PLAN)
        done = run(*words[:end], "--json")
        assert done.exit_code == 1, done.output
        said.append(json.loads(done.stdout))
    one, two = said
    assert one["settings"] == two["settings"]
    assert one["failed"].keys() == two["failed"].keys() == {"wild/seed-0", "wild/seed-1"}
    assert "not finite" in two["failed"]["wild/seed-0"]
    assert {cell["n"] for cell in two["settings"]["plain"].values()} == {2}
    ours, theirs = (contents(tmp_path / each / "runs/plain") for each in ("there", "here"))
    assert ours == theirs
    assert sum(isinstance(each, tuple) for each in ours.values()) >= 4  # weights, predictions


def test_what_a_cluster_needs(
    make_store: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray, and an engine that asks for it."""
    store = make_store()
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    alone = run(store.path, plan, "--runs", tmp_path / "a", "--address", "auto")
    assert alone.exit_code == 2
    assert alone.stderr == "Error: --address only with --engine ray\n"
    plan.write_text(f"at_once: 4{PLAN}")
    stacked = run(store.path, plan, "--runs", tmp_path / "a", "--engine", "ray")
    assert stacked.exit_code == 2
    assert "at once in this process only: expected no `at_once`, found 4" in stacked.stderr
    plan.write_text(PLAN)
    monkeypatch.setitem(sys.modules, "ray", None)
    without = run(store.path, plan, "--runs", tmp_path / "a", "--engine", "ray")
    assert without.exit_code == 2
    assert "the package 'ray' is not installed (pip install 'antcache[ray]')" in without.stderr
