"""What does a command cost before it works: its help, its version, and the answer to a wrong path?

    python benchmarks/startup.py [--record] [--repeats N]

CPU time (user and system) of a process of its own, as the console script is, in an empty folder.
All are run in turn, over and over, the first turn not counted: a figure is the median, a ratio the
median of the ratios to `python -c pass` within one turn.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from record import Figure, finish

SCRIPT = "from antcache.cli.main import main; main()"
HELP_S, WRONG_PATH_S = 0.15, 0.5
BASE = "python -c pass"
CASES = {
    "--help": (0, HELP_S),
    "--version": (0, HELP_S),
    "student train nowhere --run run": (2, WRONG_PATH_S),
    "extract nowhere store --backbone nothing": (2, WRONG_PATH_S),
    "teacher train nowhere --name x": (2, WRONG_PATH_S),
    "store info nowhere": (2, WRONG_PATH_S),
    "evaluate nowhere predictions": (2, WRONG_PATH_S),
}
"""Exit code and largest CPU seconds of each command line."""


def cpu_s(words: Sequence[str], folder: Path, code: int) -> float:
    """CPU seconds of `python WORDS` in `folder`, which must end with `code`."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    with subprocess.Popen(
        [sys.executable, *words], cwd=folder, stderr=subprocess.PIPE, text=True, **quiet
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        raise SystemExit(f"{words}: exit code {process.returncode}, not {code}: {said}")
    return usage.ru_utime + usage.ru_stime


def measure(folder: Path, repeats: int) -> dict[str, list[float]]:
    """CPU seconds of everything, in each turn."""
    found: dict[str, list[float]] = {name: [] for name in (BASE, *CASES)}
    for turn in range(repeats + 1):
        for name, seconds in found.items():
            code, _ = CASES.get(name, (0, None))
            words = ["pass"] if name == BASE else [SCRIPT, *name.split()]
            spent = cpu_s(["-c", *words], folder, code)
            if turn:
                seconds.append(spent)
    return found


def figures(found: dict[str, list[float]]) -> list[Figure]:
    """Each command's seconds, and how many times those of Python alone they are."""
    base = np.array(found.pop(BASE))
    made = [figure(f"{BASE}: CPU", base, "s", 4)]
    for name, seconds in found.items():
        spent = np.array(seconds)
        made.append(figure(f"antcache {name}: CPU", spent, "s", 4, CASES[name][1]))
        made.append(figure(f"antcache {name}: over {BASE}", spent / base, "x", 2))
    return made


def figure(
    name: str, values: np.ndarray, unit: str, digits: int, at_most: float | None = None
) -> Figure:
    """Median and spread of some values."""
    return Figure(
        figure=name,
        value=round(float(np.median(values)), digits),
        unit=unit,
        at_most=at_most,
        spread=round(float(values.std(ddof=1)), digits),
        n=len(values),
    )


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--repeats", type=int, default=9, help="turns, at least 2")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = figures(measure(Path(folder), arguments.repeats))
    for each in found:
        bound = f"  at most {each.at_most}" if each.at_most else ""
        print(f"{each.figure:68}{each.value:10,.3f} {each.unit}{bound}")
    finish("startup", found, record=arguments.record)


if __name__ == "__main__":
    main()
