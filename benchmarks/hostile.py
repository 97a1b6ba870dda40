"""Does anything that comes from somebody else reach out, end in a traceback, or never end?

    python benchmarks/hostile.py [--record] [--kind stores|files] [--only TEXT] [--commands N]

Hostile stores (`hostile_stores.py`) and hostile files (`hostile_files.py`), each in a folder of its
own with a neighbour's files beside it, which nobody may read or touch. Every command that reads
such a thing runs on it, in a process of its own with that folder as working directory. Counted are:

  - outside effects: something outside the folder, or of the neighbour's, is new, gone or other
    afterwards, or what the neighbour's files hold stands in what the command printed or wrote;
  - tracebacks: one was printed, the process crashed, or there was more than one line of error;
  - hangs: it took more than 10 s; what it had started was killed;
  - memory: its largest resident size was over 2 GiB.

That a command goes on where it can is no fault: reading what is intact is what it is for.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import forked
import hostile_stores
from cases import InputCase
from record import Figure, finish

log = logging.getLogger("hostile")

LIMIT_S = 10.0
LIMIT_BYTES = 2 << 30
PIECE_BYTES = 1 << 20

State = dict[str, str]
"""What each thing below a folder is, by its name: kind, and a hash of its content or target."""


@dataclass(kw_only=True)
class HostileTally:
    """What happened, as lines that say where.

    Attributes:
        outside: effects outside the folder.
        tracebacks: see above.
        hangs: see above.
        memory: see above.
        runs: how many commands ran.
        cases: on how many inputs.
        refused: how many of the commands refused their input.
        peak_bytes: the largest resident size.
    """

    outside: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)
    runs: int = 0
    cases: int = 0
    refused: int = 0
    peak_bytes: int = 0

    @property
    def faults(self) -> list[str]:
        """All of them."""
        return [*self.outside, *self.tracebacks, *self.hangs, *self.memory]


def state(folder: Path, but: Iterable[Path] = ()) -> State:
    """Everything below a folder but some parts; links and pipes are not opened."""
    found: State = {}
    without, waiting = set(map(str, but)), [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as inside:
                entries = list(inside)
        except OSError:  # nobody can see what is in it
            continue
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            kind = status.st_mode
            if entry.path in without:
                continue
            if stat.S_ISLNK(kind):
                found[entry.path] = f"link to {Path(entry.path).readlink()}"
            elif stat.S_ISREG(kind):
                written = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                found[entry.path] = content(entry.path, written)
            else:
                found[entry.path] = str(stat.S_IFMT(kind))
                if stat.S_ISDIR(kind):
                    waiting.append(entry.path)
    return found


@functools.cache
def content(path: str, written: tuple[int, ...]) -> str:
    """Hash of a file's content; that of one of which nobody has written since is known."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def changed(before: State, after: State) -> list[str]:
    """Names of what is new, gone or other."""
    return sorted(n for n in {*before, *after} if before.get(n) != after.get(n))


def leaks(texts: Mapping[str, bytes], secrets: Iterable[bytes]) -> list[str]:
    """Where one of the secrets stands."""
    return [name for name, text in texts.items() if any(secret in text for secret in secrets)]


def run_case(
    case: InputCase, tally: HostileTally, secrets: Iterable[bytes], commands: int | None
) -> None:
    """Make an input, run what reads it, and note what happened."""
    tally.cases += 1
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "case"
        folder.mkdir()
        home = Path(work) / "home"
        home.mkdir()
        lines = case.make(folder)
        victim = folder / "victim"
        before = state(Path(work), but=(folder, home)), state(victim)
        seen = state(folder, but=(victim,))
        for words in lines[:commands]:
            place = f"{case.name}: antcache {' '.join(words)}"
            environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
            done = forked.run(words, folder=folder, timeout_s=LIMIT_S, environment=environment)
            tally.runs += 1
            tally.refused += done.code == 2
            tally.peak_bytes = max(tally.peak_bytes, done.peak_bytes)
            now = state(Path(work), but=(folder, home)), state(victim)
            for name in (n for b, a in zip(before, now, strict=True) for n in changed(b, a)):
                tally.outside.append(f"{place}: {name} is not what it was")
            before = now
            texts = {"output": (done.stdout + done.stderr).encode()}
            last, seen = seen, state(folder, but=(victim,))
            for name in changed(last, seen):
                if Path(name).is_file() and not Path(name).is_symlink():
                    texts[name] = Path(name).read_bytes()
            for name in leaks(texts, secrets):
                tally.outside.append(f"{place}: {name} tells a secret")
            if done.hung:
                tally.hangs.append(f"{place}: more than {LIMIT_S:.0f} s")
            elif done.traceback or (done.code == 2 and len(done.complaints) > 1):
                tally.tracebacks.append(f"{place}: exit {done.code}: {done.stderr[-400:]!r}")
            if done.peak_bytes > LIMIT_BYTES:
                tally.memory.append(f"{place}: {done.peak_bytes >> 20} MiB")


def run(
    cases: Iterable[InputCase], secrets: Iterable[bytes] = (), commands: int | None = None
) -> HostileTally:
    """All cases, one after another; `commands` is how many of each case's commands run."""
    tally = HostileTally()
    for number, case in enumerate(cases, 1):
        log.info("%d: %s", number, case.name)
        known = len(tally.faults)
        run_case(case, tally, tuple(secrets), commands)
        for line in tally.faults[known:]:
            print(line, flush=True)
    return tally


def figures(kind: str, tally: HostileTally) -> list[Figure]:
    """What is recorded of a kind of input."""
    counts: dict[str, tuple[float, str, float | None, float | None]] = {
        "inputs": (tally.cases, "inputs", 40, None),
        "commands": (tally.runs, "runs", None, None),
        "refused": (tally.refused, "runs", None, None),
        "outside effects": (len(tally.outside), "runs", None, 0),
        "tracebacks": (len(tally.tracebacks), "runs", None, 0),
        "hangs over 10 s": (len(tally.hangs), "runs", None, 0),
        "over 2 GiB": (len(tally.memory), "runs", None, 0),
        "most memory": (round(tally.peak_bytes / 1e6), "MB", None, None),
    }
    return [
        Figure(
            figure=f"{kind}: {name}",
            value=value,
            unit=unit,
            at_least=at_least,
            at_most=at_most,
            n=tally.runs,
        )
        for name, (value, unit, at_least, at_most) in counts.items()
    ]


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--kind", choices=("stores", "files"), help="only these")
    parser.add_argument("--only", default="", help="only cases whose name has this in it")
    parser.add_argument("--commands", type=int, help="of each case only so many")
    arguments = parser.parse_args()
    log.addHandler(logging.StreamHandler())  # not the root's: commands run in forks of this process
    log.setLevel(logging.INFO)
    forked.preload()
    kinds = {"stores": (hostile_stores.cases(), hostile_stores.SECRETS)}
    if importlib.util.find_spec("hostile_files"):
        hostile_files = importlib.import_module("hostile_files")
        kinds["files"] = (hostile_files.cases(), getattr(hostile_files, "SECRETS", ()))
    else:
        print("there is no hostile_files.py: stores only", file=sys.stderr)
    found = []
    for kind, (cases, secrets) in kinds.items():
        if arguments.kind not in (None, kind):
            continue
        chosen = [case for case in cases if arguments.only in case.name]
        tally = run(chosen, secrets, arguments.commands)
        found += figures(kind, tally)
        print(
            f"{kind}: {tally.cases} inputs, {tally.runs} commands, {tally.refused} refused, "
            f"{len(tally.outside)} outside effects, {len(tally.tracebacks)} tracebacks, "
            f"{len(tally.hangs)} hangs, {len(tally.memory)} over 2 GiB, "
            f"{tally.peak_bytes >> 20} MiB at most"
        )
    finish("hostile", found, record=arguments.record)


if __name__ == "__main__":
    main()
