"""Kills commands at random moments; a `KilledCommand` says what is run and what must hold then.

Promise: a command runs in a process forked from one that has imported everything, so that kills
land in the work and not in the start of Python; half of the kills are aimed at the moments in which
something is published. Used by `durability.py`.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import shutil
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from antcache.errors import AntcacheError

LONGEST_S = 120
UNDISTURBED = 3
"""Runs that nobody kills, of a case that is killed more often; else one."""
SLOTS, AIMED = 3, 2
SAFE = ("jemalloc_bg_thd",)
"""Threads beside which a process may fork: pyarrow's allocator takes its locks before it does."""


class Violation(Exception):
    """A promise was broken."""


@dataclass
class Count:
    """What a case came to."""

    kills: int = 0
    finished: int = 0
    verified: int = 0
    violations: list[str] = field(default_factory=list)
    landed: Counter[str] = field(default_factory=Counter)


class KilledCommand(ABC):
    """A command that is killed.

    Attributes:
        name: of the command, for tables.
        workers: processes that run it at once.
        phases: what a process may be doing when it is killed; the first one at its beginning.
        codes: exit codes of a run that comes to its end.
        bench: who runs it; given when the case is run.
    """

    name: str
    workers = 1
    phases: tuple[str, ...]
    codes = (0,)
    bench: KillBench

    @abstractmethod
    def prepare(self, out: Path) -> None:
        """Put into the folder `out` what is there before the command."""

    @abstractmethod
    def command(self, out: Path) -> list[str]:
        """The command line behind `antcache`, given what is in `out`."""

    @abstractmethod
    def instrument(self, slot: int) -> None:
        """Let the functions of this process say how far it is, with `KillBench.mark`."""

    @abstractmethod
    def keep(self, out: Path) -> None:
        """Keep what an undisturbed run has left."""

    @abstractmethod
    def check_state(self, out: Path) -> int:
        """Raise `Violation` unless what a killed run has left is valid; how many whole things."""

    @abstractmethod
    def check_whole(self, out: Path) -> None:
        """Raise `Violation` unless what is there is what an undisturbed run leaves."""


class KillBench:
    """Runs cases below `folder`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        # Shared with the processes, of each: its phase, and of each aim how often it was come to
        # and how many seconds it took at most.
        columns = 1 + 2 * AIMED
        self.shared = np.frombuffer(mmap.mmap(-1, SLOTS * columns * 8)).reshape(SLOTS, columns)
        self.seconds = 0.0
        self.aims = [(1.0, 0.0)] * AIMED

    def fork(self, work: Callable[[], Any], errors: Path | None = None) -> int:
        """A new process that does `work` and ends."""
        threads = [
            (task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()
        ]
        threads = [name for name in threads if name not in SAFE]
        assert len(threads) == 1, f"{threads}: forking would not be safe"
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            if errors is not None:
                target = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(target, 1)
                os.dup2(target, 2)
            code = int(work() or 0)
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self, pid: int, *codes: int) -> None:
        """Wait for a process to end with one of these codes (negative: killed by that signal)."""
        end = time.monotonic() + LONGEST_S
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise Violation(f"a process did not end within {LONGEST_S} s")
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(status)
        if code not in codes:
            raise Violation(f"exit code {code}, not one of {codes}")

    def apart(self, check: Callable[[Path], Any], out: Path) -> int:
        """What a check gives in a process of its own: reading may start threads."""
        reader, writer = os.pipe()

        def work() -> None:
            try:
                said = json.dumps([int(check(out) or 0), ""])
            except (Violation, AntcacheError, OSError, ValueError) as error:
                said = json.dumps([0, f"{type(error).__name__}: {error}"])
            os.write(writer, said[: 1 << 12].encode())

        pid = self.fork(work)
        os.close(writer)
        with os.fdopen(reader) as answer:
            number, wrong = json.loads(answer.read() or '[0, "the check crashed"]')
        self.wait(pid, 0)
        if wrong:
            raise Violation(wrong)
        return int(number)

    def start(self, case: KilledCommand, out: Path) -> list[int]:
        """The command, so many times at once."""
        self.shared[:] = 0
        words = case.command(out)
        return [
            self.fork(lambda slot=slot: self._be(case, words, slot), out / "errors")
            for slot in range(case.workers)
        ]

    def _be(self, case: KilledCommand, words: list[str], slot: int) -> None:
        from antcache.cli.main import main

        case.instrument(slot)
        sys.argv = ["antcache", *words]
        main()

    def mark(
        self, owner: Any, name: str, slot: int, now: int, then: int | None, aim: int | None = None
    ) -> None:
        """Let a function say that the phase is `now` while it runs and `then` (None: as before)
        afterwards; with `aim`, let it be counted and timed for kills that aim at it."""
        work = getattr(owner, name)
        mine = self.shared[slot]

        def marked(*args: Any, **options: Any) -> Any:
            before, mine[0] = mine[0], now
            if aim is not None:
                mine[1 + aim] += 1
            began = time.monotonic()
            try:
                return work(*args, **options)
            finally:
                mine[0] = before if then is None else then
                if aim is not None:
                    longest = 1 + AIMED + aim
                    mine[longest] = max(mine[longest], time.monotonic() - began)

        setattr(owner, name, marked)

    def undisturbed(self, case: KilledCommand, runs: int) -> None:
        """Time runs that nobody kills, and keep or compare what they leave."""
        times = []
        for number in range(runs):
            out = self.new_folder(case)
            began = time.monotonic()
            for pid in self.start(case, out):
                self.wait(pid, *case.codes)
            times.append(time.monotonic() - began)
            if not number:
                case.keep(out)
            self.apart(case.check_whole, out)
        self.seconds = sorted(times)[len(times) // 2]
        self.aims = [
            (self.shared[:, 1 + aim].sum() / case.workers, self.shared[:, 1 + AIMED + aim].max())
            for aim in range(AIMED)
        ]

    def new_folder(self, case: KilledCommand) -> Path:
        """Where the next run goes, with what is there before it; the last one is gone."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        case.prepare(out)
        return out

    def await_moment(self, slot: int, pid: int) -> None:
        """Wait until a random moment of a process's life."""
        aim = self.random.randrange(-1, AIMED)
        longest = self.seconds
        if aim >= 0:  # within a random one of those that it comes to
            count, longest = self.aims[aim]
            number = self.random.randint(1, max(1, int(count)))
            ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
            while self.shared[slot, 1 + aim] < number and not os.waitid(os.P_PID, pid, ended):
                time.sleep(0.0001)
        time.sleep(self.random.uniform(0, longest))

    def kill_once(self, case: KilledCommand, count: Count) -> None:
        """Kill a run at a random moment, check what is there, and run again."""
        out = self.new_folder(case)
        pids = self.start(case, out)
        one = self.random.randrange(case.workers)
        self.await_moment(one, pids[one])
        victims = [one] if self.random.random() < 0.5 else list(range(case.workers))
        for slot in victims:
            os.kill(pids[slot], signal.SIGKILL)  # not waited for yet, so it is still ours
        phases = [int(self.shared[slot, 0]) for slot in victims]
        killed = []
        for slot, pid in enumerate(pids):
            if slot in victims:
                _, status = os.waitpid(pid, 0)
                if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
                    killed.append(slot)
            else:
                self.wait(pid, *case.codes)
        if not killed:
            return  # all had come to their ends
        count.kills += 1
        for slot, phase in zip(victims, phases, strict=True):
            count.landed[case.phases[phase]] += slot in killed
        count.verified += self.apart(case.check_state, out)
        for pid in self.start(case, out):
            self.wait(pid, *case.codes)
        self.apart(case.check_whole, out)
        count.finished += 1

    def run(self, case: KilledCommand, kills: int) -> Count:
        """Kill so many runs of a case."""
        case.bench = self
        self.undisturbed(case, UNDISTURBED if kills > UNDISTURBED else 1)
        count = Count()
        began = time.monotonic()
        while count.kills < kills:
            try:
                self.kill_once(case, count)
            except Violation as error:
                errors = (self.folder / "out" / "errors").read_text()[-2000:]
                count.violations.append(f"{case.name}: {error}\n{errors}")
                print("VIOLATION", count.violations[-1])
                if len(count.violations) >= 10:
                    break
        each = (time.monotonic() - began) / max(1, count.kills)
        landed = ", ".join(f"{count.landed[phase]} {phase}" for phase in case.phases)
        print(
            f"{case.name:28}{count.kills:7}{len(count.violations):12}{count.verified:10}"
            f"{count.finished:10}{self.seconds:8.2f}{each:8.2f}   {landed}",
            flush=True,
        )
        return count
