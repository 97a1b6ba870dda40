"""Tables of sweeps: means and differences by hand, and which setting is the best."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_kitchen import MakeStore

from antcache.cli.main import cli
from antcache.student.config import StudentConfig
from antcache.student.sweeps.table import tabulate


def test_table_by_hand() -> None:
    """Differences 1, 2, 3: t = 2 * sqrt(3), p = 0.0742 with 2 degrees of freedom."""

    def runs(*values: float | None) -> dict[int, dict[str, float] | None]:
        return {s: None if v is None else {"action/top1": v} for s, v in enumerate(values)}

    table = tabulate({"a": runs(10, 11, 12, 13), "b": runs(11, 13, 15, None), "c": runs(10)})
    a, b = (table.cells[name]["action/top1"] for name in "ab")
    assert (a.mean, a.n, a.difference) == (11.5, 4, None)
    assert (b.mean, b.deviation, b.n, b.pairs, b.difference) == (13, 2, 3, 3, 2)
    assert b.p == pytest.approx(0.0742, abs=5e-5)
    assert b.low == pytest.approx(2 - 4.30265 / np.sqrt(3), abs=1e-3)
    c = table.cells["c"]["action/top1"]
    assert (c.deviation, c.difference, c.p) == (None, 0, None)


def test_a_setting_is_chosen_on_the_videos_held_out_alone() -> None:
    def runs(held: list[float | None], validation: float) -> dict[int, dict[str, float] | None]:
        return {
            seed: None if h is None else {"action/top5": validation, "held out action/top5": h}
            for seed, h in enumerate(held)
        }

    results = {
        "worst": runs([1, 2], 90),
        "failed": runs([99, None], 80),
        "best": runs([5, 8], 10),
        "as good": runs([6, 7], 70),
    }
    table = tabulate(results)
    assert table.chosen == "best"
    assert list(table.cells["best"]) == ["held out action/top5", "action/top5"]
    assert table.to_dict()["chosen"] == "best"
    assert tabulate({"a": {0: {"action/top5": 3.0}}}).chosen is None
    assert tabulate({"a": {0: None}}).chosen is None


def test_the_command_names_the_best_on_the_videos_held_out(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    """By the epoch that each run reports: the figures stand in the runs' own records."""
    store, plan, runs = make_store(), tmp_path / "plan.yaml", tmp_path / "runs"
    base = {k: small.values[k] for k in ("layers", "heads", "width", "batch_size", "device")}
    base |= {"epochs": 2, "held_out": 0.3, "metric": "action/top1"}
    plan.write_text(json.dumps({"base": base, "seeds": [0], "grid": {"lr": [1e-9, 1e-2]}}))
    command = ["student", "sweep", str(store.path), str(plan), "--runs", str(runs)]
    said = CliRunner().invoke(cli, command)
    assert said.exit_code == 0, said.output
    found = {}
    for name in ("lr=1e-09", "lr=0.01"):
        run = runs / name / "seed-0"
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        epoch = json.loads((run / "result.json").read_text())["epoch"]
        found[name] = lines[epoch - 1]["held_out"]["action/top1"]
    best = max(found, key=lambda name: found[name])
    assert f"best on the training videos held out: {best}\n" in said.output
    table = json.loads((runs / "table.json").read_text())
    assert table["chosen"] == best
    for name, row in table["settings"].items():
        assert row["held out action/top1"]["mean"] == pytest.approx(found[name])
