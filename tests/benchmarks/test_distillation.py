"""`benchmarks/distillation.py` in small: all conditions, two seeds, few epochs, one large head."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

EK55, EGTEA = "epic-kitchens-55", "egtea"
BRIEF = ("--seeds", "2", "--threads", "1", "--epochs")


@pytest.fixture
def distillation(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("distillation")


LARGE = ("default-plain", "default-ours")
"""Of a head that is a thousand times as large."""


@pytest.mark.slow
def test_every_figure_on_record_is_measured(
    run_benchmark, recorded, distillation, tmp_path
) -> None:
    conditions = [c for c in distillation.CONDITIONS[EK55] if c not in LARGE]
    only = ("--dataset", EK55, "--condition", *conditions, "--work", str(tmp_path))
    found = run_benchmark("distillation", *BRIEF, "8", *only)  # else a gain is one over nothing
    names = {name for name in recorded("distillation") if not name.startswith(("EGTEA: ", *LARGE))}
    assert set(found) == names


@pytest.mark.slow
def test_the_usual_head(run_benchmark, recorded, tmp_path) -> None:
    """One training of one epoch; what it gains over another is measured as above."""
    brief = ("--seeds", "1", "--threads", "1", "--epochs", "1", "--work", str(tmp_path))
    found = run_benchmark("distillation", *brief, "--dataset", EK55, "--condition", LARGE[0])
    assert set(found) == {name for name in recorded("distillation") if name.startswith(LARGE[0])}


@pytest.mark.slow
def test_a_condition_that_egtea_alone_has(run_benchmark, recorded, tmp_path) -> None:
    only = ("--dataset", EGTEA, "--condition", "gappy", "--work", str(tmp_path))
    found = run_benchmark("distillation", *BRIEF, "1", *only)
    names = {name for name in recorded("distillation") if name.startswith("EGTEA: gappy: ")}
    assert set(found) == names != set()
