"""Who holds a claim at a URL: a process of some machine, as the object says that it created.

Promise: what such an object says is believed only as far as its form is right, since anybody may
have written it. A process is taken for dead only where that can be known: on its own machine.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from antcache.store.reading.proof import boot_id
from antcache.untrusted import parse_json

LARGEST_PID = 1 << 22
"""Linux numbers no process higher."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that holds a claim.

    Attributes:
        owner: another text for each claim.
        host: the name of its machine.
        machine: this boot of it, and the space in which process numbers count; None: unknown.
        pid: its number.
        started: when it started, in ticks since the boot; None: unknown.
    """

    owner: str
    host: str
    machine: str | None
    pid: int
    started: str | None

    @classmethod
    def here(cls) -> Holder:
        """This process, as the holder of a new claim."""
        pid, owner = os.getpid(), uuid.uuid4().hex
        started = _started(pid)
        return cls(
            owner=owner, host=socket.gethostname(), machine=_machine(), pid=pid, started=started
        )

    @classmethod
    def read(cls, text: bytes) -> Holder | None:
        """The holder that a claim names; None if it is no claim of ours."""
        try:
            found = parse_json(text)
            holder = cls(**{name: found[name] for name in cls.__annotations__})
        except (ValueError, TypeError, KeyError):
            return None
        texts = isinstance(holder.owner, str) and isinstance(holder.host, str)
        perhaps = all(
            each is None or isinstance(each, str) for each in (holder.machine, holder.started)
        )
        number = type(holder.pid) is int and 0 < holder.pid <= LARGEST_PID
        return holder if texts and perhaps and number else None

    def text(self, **more: int) -> bytes:
        """What its claim says."""
        return json.dumps({**asdict(self), **more}).encode()

    @property
    def is_dead(self) -> bool:
        """Whether it was a process of this machine, and is gone."""
        here = _machine()
        return here is not None and self.machine == here and _started(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _machine() -> str | None:
    boot = boot_id()
    try:
        return boot and f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process of this machine started; None: it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
