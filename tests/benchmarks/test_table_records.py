"""What a table says of where its figures come from is said of those it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def test_dates_are_those_of_the_figures_that_a_table_takes(
    benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
