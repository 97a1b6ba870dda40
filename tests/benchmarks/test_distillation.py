"""`benchmarks/distillation.py` in small: every condition, two seeds, on little data."""

from __future__ import annotations

import pytest

EK55, EGTEA = "epic-kitchens-55", "egtea"
BRIEF = ("--seeds", "2", "--threads", "1")


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded, tmp_path) -> None:
    found = run_benchmark("distillation", *BRIEF, "--dataset", EK55, "--work", str(tmp_path))
    names = {name for name in recorded("distillation") if not name.startswith("EGTEA: ")}
    assert set(found) == names


@pytest.mark.slow
def test_a_condition_that_egtea_alone_has(run_benchmark, recorded, tmp_path) -> None:
    only = ("--dataset", EGTEA, "--condition", "gappy", "--work", str(tmp_path))
    found = run_benchmark("distillation", *BRIEF, *only)
    names = {name for name in recorded("distillation") if name.startswith("EGTEA: gappy: ")}
    assert set(found) == names != set()
