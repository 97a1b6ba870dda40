"""`benchmarks/history.py` in small: both datasets, every student."""

from __future__ import annotations

import pytest
from small_salads import SPLITS, VIDEOS, write_salads

EK55, SALADS = "epic-kitchens-55", "50salads"
BRIEF = ("--seeds", "1", "--threads", "1")
WHO = ("student", "teacher, recognised past", "both", "teacher, true history, complete")


def names_of(dataset: str, students: tuple[str, ...], metrics: tuple[str, ...]) -> set[str]:
    """Figures that there have to be of each student."""
    ends = ("gain", "gain, lower end by video", "gain, upper end by video")
    found = {"recogniser: top-1", "weight of the teacher", "trust in the recogniser", "segments"}
    for metric in metrics:
        found |= {f"{who}: {metric}" for who in WHO}
        found |= {f"both over student, {metric}: {end}" for end in ends}
    return {f"{dataset}, {student}: {name}" for student in students for name in found}


@pytest.mark.slow
def test_kitchens(run_benchmark, recorded, tmp_path) -> None:
    found = run_benchmark(
        "history", *BRIEF, "--epochs", "1", "--dataset", EK55, "--work", str(tmp_path)
    )
    students = ("labels alone", "distilled")
    metrics = ("top-1", "top-5", "many-shot recall@5")
    expected = names_of(EK55, students, metrics)
    observed = {
        f"{EK55}, {student}: teacher, true history, observed: {metric}"
        for student in students
        for metric in metrics
    }
    assert set(found) == expected | observed
    assert set(found) == {name for name in recorded("history") if name.startswith(EK55)}
    for student in students:
        assert 0 <= found[f"{EK55}, {student}: weight of the teacher"] <= 1
        # Six actions in a ring: with the truth the next is known.
        assert found[f"{EK55}, {student}: teacher, true history, complete: top-1"] > 80


@pytest.mark.slow
def test_salads(run_benchmark, recorded, tmp_path) -> None:
    write_salads(tmp_path / "data" / SALADS)
    given = ("--epochs", "20", "--dataset", SALADS, "--work", str(tmp_path / "work"))
    found = run_benchmark("history", *BRIEF, *given, ANTCACHE_DATA=str(tmp_path / "data"))
    metrics = ("top-1", "top-5", "class-mean top-1")
    assert set(found) == names_of(SALADS, ("window", "memory"), metrics)
    assert set(found) == {name for name in recorded("history") if name.startswith(SALADS)}
    for student in ("window", "memory"):
        assert found[f"{SALADS}, {student}: segments"] == SPLITS * VIDEOS * 7
        # What was cut is placed, and the recogniser sees what is cut.
        assert found[f"{SALADS}, {student}: recogniser: top-1"] > 60
        heard = found[f"{SALADS}, {student}: teacher, recognised past: top-1"]
        assert heard > 55
