"""What tables are made of: the newest records of a benchmark, and how a figure is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Records(dict[str, dict[str, Any]]):
    """Newest records by figure, which remember the figures that a table has taken."""

    def __init__(self, found: dict[str, dict[str, Any]]) -> None:
        super().__init__(found)
        self.taken: set[str] = set()

    def __getitem__(self, figure: str) -> dict[str, Any]:
        record = super().__getitem__(figure)
        self.taken.add(figure)
        return record


TOKENS = "tokens: "
"""What figures of `reads` begin with that are of tokens."""


def records(benchmark: str, device: str = "") -> Records:
    """Newest records of a benchmark by figure, of devices whose names start so."""
    found = json.loads((ROOT / "benchmarks/results" / f"{benchmark}.json").read_text("utf-8"))
    there = (r for r in found if str(r["device"]).startswith(device))
    return Records({r["figure"]: r for r in sorted(there, key=lambda r: str(r["date"]))})


def value(record: dict[str, Any], digits: int = 1) -> str:
    """Mean, and the deviation over runs where there are several."""
    spread = record["spread"]
    return f"{record['value']:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def source(found: Records, benchmark: str) -> str:
    """Where the figures come from that a table has taken one by one, or all, and from when."""
    used = [each for figure, each in found.items() if not found.taken or figure in found.taken]
    newest = used[-1]
    dates = dict.fromkeys((used[0]["date"], newest["date"]))
    return (
        f"`benchmarks/{benchmark}.py`, {newest['device']}, torch {newest['versions']['torch']}, "
        f"{' to '.join(dates)}."
    )
