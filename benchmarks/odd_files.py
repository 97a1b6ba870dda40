"""Are files, folders and tables as users really have them answered right?

    python benchmarks/odd_files.py [--record] [--only TEXT]

Odd videos (`odd_videos.py`), tables and folders (`odd_tables.py`) and LMDBs (`odd_lmdbs.py`), each
made anew in a folder of its own, with the answer that is right for it: a result that is checked, or
a refusal that says why. Each command runs in a process of its own. Whatever the answer, a
traceback, a hang, or an error of more than one line is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import forked
from odd_case import OddCase
from record import Figure, finish

log = logging.getLogger("odd_files")

MODULES = ("odd_videos", "odd_tables", "odd_lmdbs")
"""Where the cases are: each has them as `CASES`."""

LEAST = {"video": 30, "table": 15, "lmdb": 10, "folder": 5}
"""So many of each kind there must be."""

LIMIT_S = 120.0

ERRORS = ("Error: ", "failed: ")
"""How the line of an error begins; the second is of a video that fails alone."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a case.

    Attributes:
        case: the case.
        wrong: what is wrong with the answer; empty if it is right.
        refused: whether the last command refused the input.
    """

    case: OddCase
    wrong: str
    refused: bool


def cases() -> list[OddCase]:
    """All cases that there are."""
    there = [name for name in MODULES if importlib.util.find_spec(name)]
    return [case for name in there for case in importlib.import_module(name).CASES]


def answer(case: OddCase) -> Answer:
    """Make an input, run what reads it, and look at what came out."""
    with tempfile.TemporaryDirectory() as work:
        folder, home = Path(work) / "case", Path(work) / "home"
        folder.mkdir()
        home.mkdir()
        environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
        lines = case.make(folder)
        done = [
            forked.run(words, folder=folder, timeout_s=LIMIT_S, environment=environment)
            for words in lines
        ]
        wrong = unruly(lines, done) or case.wrong(folder, done)
        return Answer(case=case, wrong=wrong, refused=done[-1].code == 2)


def unruly(lines: Sequence[Sequence[str]], done: Sequence[forked.Outcome]) -> str:
    """What no command may do, whatever its input."""
    for words, outcome in zip(lines, done, strict=True):
        said = outcome.stderr.strip().splitlines()
        begin = next((i for i, line in enumerate(said) if line.startswith(ERRORS)), len(said))
        complaint = ""
        if outcome.hung:
            complaint = f"more than {LIMIT_S:.0f} s"
        elif outcome.traceback or outcome.code not in (0, 1, 2):
            complaint = f"exit {outcome.code}, a crash or a traceback"
        elif outcome.code == 2 and len(said) - begin != 1:
            complaint = f"{len(said) - begin} lines of error"
        if complaint:
            return f"antcache {' '.join(words)}: {complaint}: {outcome.stderr[-400:]!r}"
    return ""


def answers(chosen: Iterable[OddCase]) -> list[Answer]:
    """The answers, each logged as it comes."""
    found = []
    for number, case in enumerate(chosen, 1):
        found.append(answer(case))
        log.info("%d: %s: %s", number, case.name, found[-1].wrong or "right")
    return found


def show(found: Sequence[Answer]) -> None:
    """Print a table."""
    width = max((len(one.case.name) for one in found), default=0)
    for one in found:
        verdict = one.wrong or ("right, refused" if one.refused else "right")
        print(f"{one.case.kind:7} {one.case.name:{width}}  {verdict}")


def figures(found: Sequence[Answer]) -> list[Figure]:
    """What is recorded: of each kind how many there are, and how many were answered wrongly."""
    made = []
    for kind, least in LEAST.items():
        ours = [one for one in found if one.case.kind == kind]
        wrong = sum(bool(one.wrong) for one in ours)
        refused = sum(one.refused for one in ours)
        made += [
            Figure(figure=f"{kind}: inputs", value=len(ours), unit="inputs", at_least=least),
            Figure(figure=f"{kind}: wrong", value=wrong, unit="inputs", at_most=0, n=len(ours)),
            Figure(figure=f"{kind}: refused", value=refused, unit="inputs", n=len(ours)),
        ]
    right = sum(not one.wrong for one in found)
    least = sum(LEAST.values())
    return [
        *made,
        Figure(figure="right", value=right, unit="inputs", at_least=least, n=len(found)),
    ]


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--only", default="", help="only cases whose name has this in it")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    log.setLevel(logging.INFO)
    forked.preload()
    found = answers(case for case in cases() if arguments.only in case.name)
    show(found)
    finish("odd_files", figures(found), record=arguments.record)


if __name__ == "__main__":
    main()
