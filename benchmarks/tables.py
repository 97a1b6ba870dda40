"""Writes the README's tables of measured figures from `benchmarks/results/`, and from nothing else.

    python benchmarks/tables.py            # rewrite the tables in README.md
    python benchmarks/tables.py --check    # exit 1 if they are not what the results say

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Records = dict[str, dict[str, Any]]


def records(benchmark: str) -> Records:
    """Newest records of a benchmark by figure."""
    found = json.loads((ROOT / "benchmarks/results" / f"{benchmark}.json").read_text("utf-8"))
    return {r["figure"]: r for r in sorted(found, key=lambda r: str(r["date"]))}


def value(record: dict[str, Any], digits: int = 1) -> str:
    """Mean, and the deviation over runs where there are several."""
    spread = record["spread"]
    return f"{record['value']:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def source(found: Records, benchmark: str) -> str:
    """Where the figures come from."""
    newest = list(found.values())[-1]
    versions = newest["versions"]
    return (
        f"`benchmarks/{benchmark}.py`, {newest['device']}, torch {versions['torch']}, "
        f"{newest['date']}."
    )


def demo() -> str:
    """Both students of the demo side by side."""
    found = records("demo")
    lines = ["| validation, percent | plain student | distilled student |", "|---|---|---|"]
    for name in ("action top-1", "action top-5", "action class-mean recall@5"):
        cells = " | ".join(value(found[f"{name}, {who}"]) for who in ("plain", "distilled"))
        lines.append(f"| {name} | {cells} |")
    seconds = found["whole demo"]["value"]
    lines += ["", f"Mean ± deviation over three seeds; the whole demo took {seconds:.0f} s."]
    lines[-1] += f" {source(found, 'demo')}"
    return "\n".join(lines) + "\n"


def teachers() -> str:
    """Teachers on the real EPIC-KITCHENS-55 labels."""
    found = records("teachers")
    names = ("top-1", "top-5", "many-shot recall@5")
    lines = [
        "| teacher on EPIC-KITCHENS-55 labels, percent | history | top-1 | top-5 | "
        "many-shot class-mean recall@5 |",
        "|---|---|---|---|---|",
    ]
    for kind in ("count", "sequence"):
        for mode in ("complete", "observed"):
            cells = " | ".join(value(found[f"{kind}, {mode} history: {name}"]) for name in names)
            lines.append(f"| {kind} | {mode} | {cells} |")
    lines.append("| best published of each column | complete | 19.1 | 36.6 | 22.4 |")
    lines += ["", "All 4,979 validation segments, the official many-shot list;"]
    lines[-1] += f" the sequence teacher on three seeds. {source(found, 'teachers')}"
    return "\n".join(lines) + "\n"


TABLES = {"demo": demo, "teachers": teachers}


def main() -> None:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    old = path.read_text("utf-8")
    new = BLOCK.sub(lambda m: m[1] + TABLES[m[2]]() + m[3], old)
    if check:
        if new != old:
            sys.exit("README.md: tables differ from the results; run benchmarks/tables.py")
    else:
        path.write_text(new, "utf-8")


if __name__ == "__main__":
    main()
