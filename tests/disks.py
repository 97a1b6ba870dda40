"""What tests do to a disk: it is not waited for, calls fail, processes end, and a trace is kept."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from antcache.files import disk

FSYNC = os.fsync


def looked_at(file: Any) -> None:
    """In place of a sync: the file must be open, and the disk is not waited for."""
    os.fstat(file if isinstance(file, int) else file.fileno())


@pytest.fixture(autouse=True, scope="session")
def _quick_disk() -> Iterator[None]:
    """No sync but in processes of their own, and where a `trace` is kept of them: nothing else can
    be seen of one while the machine runs, and each takes milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", looked_at)
        yield


CALLS = (
    *((os, name) for name in ("mkdir", "rename", "replace", "link", "fsync")),
    (io, "open"),
    (disk, "_renameat2"),
)
"""Calls by which something is written."""


@pytest.fixture
def failing() -> Callable[[int, int], AbstractContextManager[list[str]]]:
    """Function: a context in which the `number`th of the calls that write fails with `code`, and
    every one after it; it gives the names of those made."""

    @contextmanager
    def fail(number: int, code: int) -> Iterator[list[str]]:
        made: list[str] = []

        def shim(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any, **options: Any) -> Any:
                reading = name == "open" and "r" in (args[1] if len(args) > 1 else "r")
                if not reading:
                    made.append(name)
                    if len(made) > number:
                        named = () if isinstance(args[0], int) else (str(args[0]),)
                        raise OSError(code, os.strerror(code), *named)
                return call(*args, **options)

            return called

        with pytest.MonkeyPatch.context() as patch:
            for module, name in CALLS:
                patch.setattr(module, name, shim(name, getattr(module, name)))
            yield made

    return fail


STEPS = (
    *((os, name) for name in ("rename", "replace", "link")),
    (disk, "_renameat2"),
    (shutil, "rmtree"),
)
"""Calls between which nothing changes that could be seen."""


@pytest.fixture
def killed() -> Callable[[Callable[[], Any], int], bool]:
    """Function: does work in a process of its own, which is killed when it comes to the `number`th
    of `STEPS`; whether it came to it."""

    def run(work: Callable[[], Any], number: int) -> bool:
        child = os.fork()
        if child:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status in (0, -signal.SIGKILL), status
            return status != 0
        status, made = 70, 0

        def shim(call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any, **options: Any) -> Any:
                nonlocal made
                made += 1
                if made > number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **options)

            return called

        try:
            signal.alarm(60)
            for module, name in STEPS:
                setattr(module, name, shim(getattr(module, name)))
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    return run


@dataclass
class Trace:
    """What was done to a disk, in order.

    Attributes:
        events: `("sync", path, hash of the file as it was then)`, `("publish", old, new)` and
            `("remove", path)`.
    """

    events: list[tuple[str, ...]] = field(default_factory=list)

    def at(self, *event: str) -> int:
        """Place of the last event that begins so."""
        places = [i for i, e in enumerate(self.events) if e[: len(event)] == event]
        assert places, f"{event} is not among {self.events}"
        return places[-1]

    def published(self, target: Path) -> int:
        """Place of the event that gave something its name `target`."""
        places = [i for i, e in enumerate(self.events) if e[0] == "publish" and e[2] == str(target)]
        assert places, f"nothing became {target}: {self.events}"
        return places[-1]

    def check(self, target: Path) -> None:
        """What is at `target` was written, then synced with its folders, then renamed, and then the
        folder that it is in was synced."""
        place = self.published(target)
        source, before = Path(self.events[place][1]), self.events[:place]
        for path in (target, *target.rglob("*")):
            staged = str(source / path.relative_to(target))
            assert ("sync", staged, digest_of(path)) in before, f"{path} was not synced as it is"
        assert ("sync", str(target.parent), "") in self.events[place:], "the folder was not synced"


def digest_of(path: Path) -> str:
    """Hash of a file; empty for a folder."""
    return "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Trace:
    """Records, at the lowest level, what is synced, renamed and removed."""
    found = Trace()
    renameat2, rmtree = disk._renameat2, shutil.rmtree

    def synced(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        FSYNC(handle)
        found.events.append(("sync", str(path), digest_of(path)))

    def renamed(old: Path, new: Path, flag: int) -> bool:
        done = renameat2(old, new, flag)
        if done:
            found.events.append(("publish", str(old), str(new)))
        return done

    def removed(path: Path, **options: Any) -> None:
        found.events.append(("remove", str(path)))
        rmtree(path, **options)

    def moved(call: Callable[..., None]) -> Callable[..., None]:
        def shim(old: Path, new: Path, **options: Any) -> None:
            call(old, new, **options)
            found.events.append(("publish", str(old), str(new)))

        return shim

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(disk, "_renameat2", renamed)
    monkeypatch.setattr(shutil, "rmtree", removed)
    for name in ("rename", "replace", "link"):
        monkeypatch.setattr(os, name, moved(getattr(os, name)))
    return found
