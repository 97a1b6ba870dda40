"""Processes beside the tests: one that holds a lock, and some that begin at the same moment.

Threads of tests end with them, or wait: none works on beside all the tests that follow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

HOLDER = """
import sys, time
from pathlib import Path
from antcache.files.locks import hold
with hold(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held_elsewhere() -> Callable[[Path], AbstractContextManager[subprocess.Popen[str]]]:
    """Function: a context in which a process of its own holds the lock at a path."""

    @contextmanager
    def held(path: Path) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", HOLDER, str(path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as process:
            assert process.stdout.readline() == "True\n"
            try:
                yield process
            finally:
                process.kill()

    return held


TOGETHER = """
import json, os, sys, traceback
sys.path.append(sys.argv[1])
import forked
from antcache.cli.main import main
forked.preload()
sys.path.pop()
for line in sys.stdin:
    codes, environment, folder = json.loads(line)
    ready, go = os.pipe(), os.pipe()
    children = []
    for code in codes:
        out, err = os.memfd_create("out"), os.memfd_create("err")
        child = os.fork()
        if child == 0:
            status = 70
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out, 1)
                os.dup2(err, 2)
                os.environ.clear()
                os.environ.update(environment)
                os.chdir(folder)
                os.write(ready[1], b".")
                os.read(go[0], 1)  # all go on at once
                exec(code)
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        children.append((child, out, err))
    for _ in codes:
        os.read(ready[0], 1)
    os.write(go[1], b"." * len(codes))
    found = []
    for child, out, err in children:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [os.pread(each, 1 << 20, 0).decode() for each in (out, err)]
        found.append([status, *texts])
    for each in (*ready, *go, *(one for _, *both in children for one in both)):
        os.close(each)
    print(json.dumps(found), flush=True)
"""


@dataclass
class Ended:
    """What became of one of several processes: exit code, and what it printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def refusal(self) -> str:
        """The one line that it ended with."""
        assert self.code == 2, self
        (line,) = [line for line in self.stderr.splitlines() if line.startswith("Error: ")]
        assert "Traceback" not in self.stderr
        return line


class Parent:
    """A process that has imported all there is, and forks what it is told to run."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, tasks: str) -> str:
        """Its answer to a line; it is killed where that takes minutes."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", TOGETHER, str(BENCHMARKS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(tasks + "\n")
        self._process.stdin.flush()
        watch = threading.Timer(300, self._process.kill)
        watch.start()
        try:
            return self._process.stdout.readline()
        finally:
            watch.cancel()

    def end(self) -> None:
        """Nothing of it is left."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def ticks(thread: threading.Thread) -> int:
    """CPU time of a thread in ticks of the system; 0 where it has ended, or nobody knows."""
    try:
        said = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    except OSError:
        return 0
    user, system = said.rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def busy_threads(seconds: float) -> list[str]:
    """Name of each other thread that works half of the next seconds, and where it is."""
    others = [each for each in threading.enumerate() if each is not threading.current_thread()]
    before = [ticks(thread) for thread in others]
    time.sleep(seconds)
    many = os.sysconf("SC_CLK_TCK") * seconds / 2
    frames = sys._current_frames()
    return [
        f"{thread.name}:\n{''.join(traceback.format_stack(frames.get(thread.ident or 0)))}"
        for thread, then in zip(others, before, strict=True)
        if ticks(thread) - then > many
    ]


@pytest.fixture(scope="session", autouse=True)
def _nothing_works_on() -> Iterator[None]:
    """A server of a test once read the end of a closed connection again and again, for as long as
    the tests after it ran: they took twice their time."""
    yield
    assert busy_threads(0.3) == []


@pytest.fixture(scope="session")
def _parent() -> Iterator[Parent]:
    parent = Parent()
    yield parent
    parent.end()


@pytest.fixture
def together(_parent: Parent) -> Callable[..., list[Ended]]:
    """Function: runs Python code, or `antcache` command lines, in processes that all begin at the
    same moment; everything that they may import is there."""

    def run(*tasks: str | list[Any]) -> list[Ended]:
        codes = [
            task
            if isinstance(task, str)
            else f"sys.argv = {['antcache', *map(str, task)]!r}\nmain()"
            for task in tasks
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        answer = _parent.run(json.dumps([codes, environment, str(Path.cwd())]))
        return [Ended(*each) for each in json.loads(answer)]

    return run
