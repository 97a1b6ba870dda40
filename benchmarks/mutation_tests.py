"""Which tests belong to a line, and copies of the tree to run them in: a part of `mutation.py`.

Promise: the tree itself is never changed. Which lines a test file runs is found by running it, once
for each state of the sources and of that file; a file whose tests fail or time out without any
fault is no judge of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from mutants import Mutant
from mutation_lines import ROOTS, WHERE

LIMIT_S = 900.0
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A checkout.

    Attributes:
        root: its folder.
        packages: import name of each package, to its folder in `root`.
        files: every file that belongs to it, relative to `root`.
        excluded: files of the packages that are left alone.
        preload: modules of others to import once for all runs.
        guards: test files about the code itself, which run nothing of it: judges of whatever is
            not seen to run, such as defaults.
    """

    root: Path
    packages: dict[str, str]
    files: tuple[str, ...]
    excluded: frozenset[str] = frozenset()
    preload: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()

    @property
    def tests(self) -> list[str]:
        """Test files."""
        names = (f for f in self.files if f.startswith("tests/"))
        return sorted(f for f in names if PurePosixPath(f).match("test_*.py"))

    def sources(self) -> dict[str, bytes]:
        """Content of the files to find mutants in."""
        folders = tuple(f"{folder}/" for folder in self.packages.values())
        wanted = (f for f in self.files if f.endswith(".py") and f.startswith(folders))
        return {f: (self.root / f).read_bytes() for f in sorted(wanted) if f not in self.excluded}

    def digest(self, files: Iterable[str]) -> str:
        """Of the names and contents of some files."""
        found = hashlib.sha256()
        for file in sorted(files):
            found.update(file.encode() + b"\0" + (self.root / file).read_bytes() + b"\0")
        return found.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """What became of some test files.

    Attributes:
        code: pytest's exit code; `hung` for those that were killed.
        seconds: how long they ran.
        output: the end of what they printed.
    """

    code: int | str
    seconds: float
    output: str

    @property
    def passed(self) -> bool:
        """Nothing failed (5: no test was left to run)."""
        return self.code in (0, 5)

    @property
    def by(self) -> str:
        """The test that failed first, or how else it ended."""
        found = FAILED.search(self.output)
        return found[1] if found else f"exit code {self.code}"


class Worker:
    """A copy of the tree, and a process that runs tests in it."""

    def __init__(self, tree: Tree, copy: Path) -> None:
        self.tree, self.copy = tree, copy
        _bring_up_to_date(tree, copy)
        command = [sys.executable, str(Path(__file__).with_name("mutation_worker.py"))]
        self.process = subprocess.Popen(
            [*command, str(copy), json.dumps(tree.packages), json.dumps(tree.preload)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        tests: list[str],
        limit_s: float,
        environment: Mapping[str, str] | None = None,
        *,
        keep: bool,
    ) -> SuiteResult:
        """Run test files in the copy as it is.

        Args:
            tests: relative to the copy.
            limit_s: seconds after which they are killed.
            environment: variables to set.
            keep: compiled modules for the next time; not those with a fault in them, for all that
                Python looks at is their file's time and size.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        environment = {"PYTHONDONTWRITEBYTECODE": "" if keep else "1", **(environment or {})}
        job = {"tests": tests, "limit_s": limit_s, "environment": environment}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return SuiteResult(**json.loads(self.process.stdout.readline()))

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """The fault is in the copy."""
        path = self.copy / mutant.file
        source, at = path.read_bytes(), path.stat().st_mtime
        try:
            path.write_bytes(mutant.applied(source))
            os.utime(path, (at + 2, at + 2))  # so that what was compiled before is out of date
            yield
        finally:
            path.write_bytes(source)
            os.utime(path, (at, at))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Workers:
    """Several of them, each in a thread of its own."""

    def __init__(self, tree: Tree, work: Path, count: int) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._all = [Worker(tree, work / f"copy-{i}") for i in range(count)]
        self._free: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._all:
            self._free.put(worker)
        self.pool = ThreadPoolExecutor(count)

    @contextmanager
    def one(self) -> Iterator[Worker]:
        """A worker that nobody else has."""
        worker = self._free.get()
        try:
            yield worker
        finally:
            self._free.put(worker)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.shutdown(cancel_futures=True)
        for worker in self._all:
            worker.close()


def _bring_up_to_date(tree: Tree, copy: Path) -> None:
    """Make `copy` hold the tree's files and no others, but for caches of what has not changed."""
    wanted = {copy / file: tree.root / file for file in tree.files}
    if copy.exists():
        for path in [p for p in copy.rglob("*") if p.is_file() and "__pycache__" not in p.parts]:
            if path not in wanted:
                path.unlink()
    for path, source in wanted.items():
        if not path.is_file() or path.read_bytes() != source.read_bytes():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, path)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one test file runs.

    Attributes:
        lines: by source file.
        seconds: how long it took, with the lines being written down.
        passed: without any fault.
    """

    lines: dict[str, list[int]]
    seconds: float
    passed: bool


def what_tests_run(tree: Tree, workers: Workers, work: Path) -> dict[str, Ran]:
    """Of each test file; those that are known from before are not run again."""
    shared = tree.digest(tree.sources())

    def look(test: str) -> Ran:
        kept = work / f"{test.replace('/', '-')}.{shared}.{tree.digest([test])}.json"
        if kept.is_file():
            return Ran(**json.loads(kept.read_text()))
        with workers.one() as worker:
            found = _run_and_look(worker, test)
        for old in work.glob(f"{test.replace('/', '-')}.*"):
            old.unlink()
        kept.write_text(json.dumps(asdict(found)))
        say = "" if found.passed else ": fails, and is left out"
        print(f"{test} runs {sum(map(len, found.lines.values()))} lines{say}", flush=True)
        return found

    work.mkdir(parents=True, exist_ok=True)
    return dict(zip(tree.tests, workers.pool.map(look, tree.tests), strict=True))


def _run_and_look(worker: Worker, test: str) -> Ran:
    out = worker.copy.with_name(f"{worker.copy.name}.lines")
    out.unlink(missing_ok=True)
    folders = [f"{worker.copy / folder}/" for folder in worker.tree.packages.values()]
    environment = {WHERE: str(out), ROOTS: os.pathsep.join(folders)}
    result = worker.run([test], LIMIT_S, environment, keep=True)
    lines: dict[str, set[int]] = {}
    for place in set(out.read_text().splitlines() if out.exists() else []):
        file, _, number = place.rpartition(":")
        lines.setdefault(str(Path(file).relative_to(worker.copy)), set()).add(int(number))
    passed = result.passed or worker.run([test], LIMIT_S, keep=True).passed
    return Ran(
        lines={file: sorted(own) for file, own in sorted(lines.items())},
        seconds=result.seconds,
        passed=passed,
    )


def belonging(
    mutant: Mutant, ran: Mapping[str, Ran], budget_s: float, guards: Iterable[str] = ()
) -> list[str]:
    """The test files to try it with, the most likely ones first, in `budget_s` seconds together.

    They are those that run its lines. Where no line of it is seen to run (constants, defaults, what
    is compiled), they are those that run anything of its file, and the guards.
    """
    lines = set(range(mutant.line, mutant.last_line + 1))
    judges = {t: r for t, r in ran.items() if r.passed and mutant.file in r.lines}
    direct = [t for t, r in judges.items() if lines & set(r.lines[mutant.file])]
    sound = [guard for guard in guards if ran[guard].passed]
    *folder, name = PurePosixPath(mutant.file).parts
    own = f"test_{name}"

    def rank(test: str) -> tuple[Any, ...]:
        place = PurePosixPath(test)
        return place.name != own, not set(folder) & set(place.parts), ran[test].seconds

    chosen: list[str] = []
    for test in sorted(direct or {*judges, *sound}, key=rank):
        if chosen and ran[test].seconds > budget_s:
            continue
        budget_s -= ran[test].seconds
        chosen.append(test)
    return chosen
