"""Do the tests notice a fault? Small ones are put into the code, one at a time, and the tests run.

    python benchmarks/mutation.py [--mutants 200] [--seed 0] [--jobs 2] [--budget 300] [--record]

The faults (`mutants.py`) are a sample over antcache/, kernels/ (but for the Triton kernels, whose
language is not Python) and cli/, in proportion to their lines of code. Each is tried in a copy of
the tree with the tests that belong to its line (`mutation_tests.py`): those of the file of the same
name first, then others that run the line, as long as `--budget` seconds allow. A test that fails,
and tests that take five times as long as without the fault, kill it.

What lives matters, unless `results/mutation_survivors.json` says why not: `why` is written there by
hand, after looking, and `--record` keeps it. At least 96 % of those that matter must be killed.

A run that is stopped goes on where it was (`work/mutation/`); survivors are tried again when the
tests have changed, everything of a file when the file has.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

from mutants import Mutant, sample
from mutation_tests import Ran, Tree, Worker, Workers, belonging, what_tests_run

HERE = Path(__file__).resolve().parent
WORK = HERE / "work" / "mutation"
SURVIVORS = HERE / "results" / "mutation_survivors.json"
PRELOAD = ("pytest", "hypothesis", "numpy", "torch", "zarr", "h5py", "click", "rich", "pandas")
PRELOAD += ("safetensors.torch", "transformers", "numba", "pyarrow", "av", "jinja2")
PACKAGES = {"antcache": "antcache", "antcache.kernels": "kernels", "antcache.cli": "cli"}
AT_LEAST = 96.0
KILLED, SURVIVED = "killed", "survived"


def checkout() -> Tree:
    """This one, as it is."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=HERE.parent, check=True, capture_output=True, text=True)
    files = [f for f in listed.stdout.splitlines() if (HERE.parent / f).is_file()]
    triton = [f for f in files if f.startswith("kernels/") and _mentions(f, "triton.jit")]
    return Tree(
        root=HERE.parent,
        packages=PACKAGES,
        files=tuple(files),
        excluded=frozenset(triton),
        preload=PRELOAD,
        guards=("tests/test_architecture.py", "tests/test_defaults.py"),
    )


def _mentions(file: str, word: str) -> bool:
    return word in (HERE.parent / file).read_text("utf-8", errors="replace")


def error_names(tree: Tree) -> set[str]:
    """Names of the errors, whose arguments are texts."""
    return set(re.findall(r"^class (\w+)", (tree.root / "antcache/errors.py").read_text(), re.M))


@dataclass(frozen=True, kw_only=True)
class MutantOutcome:
    """What became of a mutant.

    Attributes:
        mutant: its key.
        line: where it is.
        outcome: killed or survived.
        by: the test that killed it.
        tests: how many test files were tried.
        seconds: how long they took.
        source: digest of the mutant's file, when it is kept.
        judged: digest of all tests, likewise.
    """

    mutant: str
    line: int
    outcome: str
    by: str
    tests: int
    seconds: float
    source: str = ""
    judged: str = ""


def judge(
    mutant: Mutant,
    ran: Mapping[str, Ran],
    worker: Worker,
    budget_s: float,
    limit_s: tuple[float, float],
) -> MutantOutcome:
    """Try a mutant with the tests that belong to it, until one kills it."""
    tests = belonging(mutant, ran, budget_s, worker.tree.guards)
    by, seconds, tried = "", 0.0, 0
    caches = mkdtemp()  # of compiled loops, which would not notice a fault in what they call
    text = (worker.copy / mutant.file).read_bytes()
    compiled = b"numba" in text or b"loops.compiled" in text
    environment = {"NUMBA_CACHE_DIR": caches} if compiled else {}
    with worker.mutated(mutant):
        for group in (tests[:1], tests[1:]):
            if group and not by:
                fixed, times = limit_s
                longest = fixed + times * sum(ran[test].seconds for test in group)
                result = worker.run(group, longest, environment, keep=False)
                by = "" if result.passed else result.by
                seconds, tried = seconds + result.seconds, tried + len(group)
    shutil.rmtree(caches)
    return MutantOutcome(
        mutant=mutant.key,
        line=mutant.line,
        outcome=KILLED if by else SURVIVED,
        by=by,
        tests=tried,
        seconds=round(seconds, 1),
    )


def judge_all(
    tree: Tree,
    mutants: Iterable[Mutant],
    work: Path,
    *,
    jobs: int,
    budget_s: float,
    limit_s: tuple[float, float] = (60, 5),
) -> list[MutantOutcome]:
    """Outcomes, those from before included; each is kept as soon as it is there.

    Args:
        tree: what is judged.
        mutants: of its files.
        work: folder for copies, and for what is known already.
        jobs: how many at a time.
        budget_s: see `belonging`.
        limit_s: seconds that tests may take, and how many more for each second without a fault.
    """
    kept, mutants = work / "outcomes.jsonl", list(mutants)
    tests = tree.digest(tree.tests)  # as they are in the copies
    sources = {file: tree.digest([file]) for file in {mutant.file for mutant in mutants}}
    with Workers(tree, work, jobs) as workers:
        ran = what_tests_run(tree, workers, work / "lines")
        known: dict[str, MutantOutcome] = {}
        if kept.is_file():
            for line in kept.read_text().splitlines():
                outcome = MutantOutcome(**json.loads(line))
                known[outcome.mutant] = outcome

        def fresh(mutant: Mutant) -> bool:
            old = known.get(mutant.key)
            if old is None or old.source != sources[mutant.file]:
                return True
            return old.outcome == SURVIVED and old.judged != tests

        def run(mutant: Mutant) -> MutantOutcome:
            with workers.one() as worker:
                outcome = judge(mutant, ran, worker, budget_s, limit_s)
            return replace(outcome, source=sources[mutant.file], judged=tests)

        running = [workers.pool.submit(run, mutant) for mutant in mutants if fresh(mutant)]
        for done, future in enumerate(as_completed(running), 1):
            outcome = future.result()
            known[outcome.mutant] = outcome
            with kept.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
            what = outcome.by or f"SURVIVED {outcome.tests} test files"
            print(
                f"{done}/{len(running)} {outcome.seconds:.0f} s  {outcome.mutant}  {what}",
                flush=True,
            )
    return [known[mutant.key] for mutant in mutants]


def with_reasons(outcomes: Iterable[MutantOutcome], reasons: Path) -> list[dict[str, object]]:
    """The survivors, each with why it does not matter, where that was written down before."""
    old = json.loads(reasons.read_text("utf-8")) if reasons.is_file() else []
    why = {entry["mutant"]: entry["why"] for entry in old}
    return [
        {"mutant": o.mutant, "line": o.line, "why": why.get(o.mutant, "")}
        for o in outcomes
        if o.outcome == SURVIVED
    ]


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--budget", type=float, default=300.0, help="seconds of tests for each")
    parser.add_argument("--record", action="store_true", help="update the results files")
    arguments = parser.parse_args()
    os.environ.setdefault("ANTCACHE_DATA", str(HERE.parent.parent / "shared" / "data"))
    os.environ["OMP_NUM_THREADS"] = "1"
    tree = checkout()
    chosen = sample(tree.sources(), arguments.mutants, arguments.seed, errors=error_names(tree))
    outcomes = judge_all(tree, chosen, WORK, jobs=arguments.jobs, budget_s=arguments.budget)
    survivors = with_reasons(outcomes, SURVIVORS)
    for survivor in survivors:
        print(f"survived: {survivor['mutant']} (line {survivor['line']}): {survivor['why']}")
    if arguments.record:
        SURVIVORS.write_text(json.dumps(survivors, indent=1, ensure_ascii=False) + "\n", "utf-8")
    _finish(outcomes, survivors, record=arguments.record)


def _finish(
    outcomes: list[MutantOutcome], survivors: list[dict[str, object]], *, record: bool
) -> None:
    from record import Figure, finish  # here, for it imports what is judged

    killed = sum(outcome.outcome == KILLED for outcome in outcomes)
    excused = sum(bool(survivor["why"]) for survivor in survivors)
    matter = len(outcomes) - excused
    figures = [
        Figure(figure="faults tried", value=len(outcomes), unit="mutants"),
        Figure(figure="faults that do not matter", value=excused, unit="mutants", n=len(outcomes)),
        Figure(
            figure="killed of those that matter",
            value=100 * killed / matter,
            unit="percent",
            at_least=AT_LEAST,
            n=matter,
        ),
    ]
    finish("mutation", figures, record=record)


if __name__ == "__main__":
    sys.exit(main())
