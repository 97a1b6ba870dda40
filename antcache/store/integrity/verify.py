"""Read a whole store and name what is not as it was written.

Promise: every byte of every unit and group file is read and compared with the hash that was taken
when it was written, so that no flipped bit, lost file or misplaced chunk is passed over, and what
is intact is never named. What reading would refuse for another reason is named, too: a unit of
another key, a link that leads out of the store, labels of other classes. Files that are none of the
store's are not looked at, unless they stand where a unit would. A unit that is gone without a trace
has left no record; `doctor` compares the store with the annotations for that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from antcache.errors import AntcacheError, DamagedStore, MissingKey
from antcache.progress import Progress, silent
from antcache.store.backend import METADATA, Backend
from antcache.store.backends import check_format, format_of
from antcache.store.faults import refused
from antcache.store.features import Stream
from antcache.store.format import GROUPS, TOKEN_FORMAT
from antcache.store.reading.proof import Count, uncounted
from antcache.store.store import Store

MEANING = "meaning"
"""What is wrong with a unit that makes no sense, although every byte is as it was written."""

INDEX = "index"
"""What is wrong with a stream whose index says something else than what is there."""

MAX_WORKERS = 8


@dataclass(frozen=True)
class DamagedPart:
    """One thing that is not as it was written.

    Attributes:
        key: the unit or group; `""` is the root.
        what: name of the array, `metadata`, `place` (it belongs elsewhere), `meaning` (its bytes
            are as they were written, but do not fit the rest of the store), `index` (the index of
            a stream says something else than a list), or what stands there that a store does not
            have.
        why: more about it, where that is not all.
    """

    key: str
    what: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What `verify` has read and found.

    Attributes:
        path: the store.
        units: number of units: splits, videos of every stream, sets of soft targets.
        groups: number of groups.
        num_bytes: how much was read.
        seconds: how long it took.
        groups_damaged: groups whose attributes are damaged or gone.
        units_damaged: what is damaged in units.
    """

    path: str
    units: int
    groups: int
    num_bytes: int
    seconds: float
    groups_damaged: tuple[DamagedPart, ...]
    units_damaged: tuple[DamagedPart, ...]

    @property
    def damaged(self) -> tuple[DamagedPart, ...]:
        """Everything that is damaged."""
        return self.groups_damaged + self.units_damaged

    @property
    def intact(self) -> bool:
        """Whether nothing is."""
        return not self.damaged

    @property
    def gigabytes_per_second(self) -> float:
        """How fast it was read, in 1e9 bytes per second."""
        return self.num_bytes / 1e9 / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "path": self.path,
            "intact": self.intact,
            "units": self.units,
            "groups": self.groups,
            "bytes": self.num_bytes,
            "seconds": self.seconds,
            "gigabytes_per_second": self.gigabytes_per_second,
            "damaged": [asdict(finding) for finding in self.damaged],
        }


def verify(
    store: Store | Backend, *, workers: int | None = None, progress: Progress = silent
) -> VerifyReport:
    """Check every unit and group of a store, whose root may be damaged.

    What looks damaged is looked at twice, so that a video which another process replaces meanwhile
    is not taken for damaged. Memory: 1 MiB per worker.

    Args:
        store: the store, or its backend (`find_backend` gives one where the root is damaged).
        workers: files that are read at once; by default one per core, 8 at most.
        progress: is told of units, as `verify`.

    Raises:
        NotAStore: it has a format that this version does not read.
        AntcacheError: something can't be read now, and may be intact.
    """
    backend = store.backend if isinstance(store, Store) else store
    started = time.perf_counter()
    groups = list(_groups(backend))
    bad_groups = [DamagedPart(key, METADATA) for key in groups if backend.group_damaged(key)]
    if all(finding.key for finding in bad_groups):
        check_format(backend)
    foreign = backend.foreign_entries()
    bad_groups += [DamagedPart(name, kind) for name, kind in foreign.items()]
    unknown = {finding.key for finding in bad_groups}
    streams: dict[str, Stream] = {}
    for key in groups:
        if not {"", key} & unknown:
            try:
                if key.startswith("features/"):
                    streams[key] = Store(backend).stream(key.partition("/")[2])
                elif key == "labels":
                    with suppress(MissingKey):
                        opened = Store(backend)
                        _ = opened.taxonomy, opened.protocol, opened.list_fps
            except DamagedStore as error:  # as it was written, and makes no sense
                bad_groups.append(DamagedPart(key, MEANING, str(error)))
    unknown = {finding.key for finding in bad_groups}
    if "" not in unknown and (wrong := _wrong_format(backend, streams)):
        bad_groups.append(DamagedPart("", MEANING, wrong))  # and its units can be looked at
    for key in streams:
        if wrong := backend.wrong_index(key):
            why = f"{backend.where(key)}: its index has {wrong}"
            bad_groups.append(DamagedPart(key, INDEX, why))
    holding = [group for group in groups if group not in ("", "features")]
    keys = [f"{group}/{name}" for group in holding for name in backend.units(group)]
    read = [len(backend.group_text(key) or b"") for key in groups]  # threads append at once
    found: dict[str, list[DamagedPart]] = {}
    progress("verify", 0, len(keys))
    # Threads: hashing and reading release the interpreter's lock.
    with ThreadPoolExecutor(workers or min(MAX_WORKERS, os.cpu_count() or 1)) as pool:
        waiting: dict[Future[list[DamagedPart]], str] = {
            pool.submit(check_unit, backend, key, read.append, unknown, streams): key
            for key in keys
        }
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                found[waiting[future]] = future.result()
                progress("verify", done, len(keys))
        except BaseException:  # Ctrl-C too: start no further ones
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return VerifyReport(
        path=str(backend.root),
        units=len(keys),
        groups=len(groups),
        num_bytes=sum(read),
        seconds=time.perf_counter() - started,
        groups_damaged=tuple(bad_groups),
        units_damaged=tuple(finding for key in keys for finding in found[key]),
    )


def _wrong_format(backend: Backend, streams: Mapping[str, Stream]) -> str:
    """What is wrong with the format that an intact root names; empty if nothing is."""
    found = format_of(backend.group_attributes(""))
    tokens = [stream.name for stream in streams.values() if stream.grid is not None]
    if not tokens or found >= TOKEN_FORMAT:
        return ""
    return f"it says format {found}, and has streams of tokens ({', '.join(tokens)})"


def check_unit(
    backend: Backend,
    key: str,
    count: Count = uncounted,
    unknown: Collection[str] = (),
    streams: Mapping[str, Stream] | None = None,
) -> list[DamagedPart]:
    """What is wrong with a unit, looked at twice if anything is; nothing if it is gone meanwhile.

    Args:
        backend: the store's.
        key: of the unit.
        count: is told what is read.
        unknown: groups that can't be read, against which no unit can be held.
        streams: settings by group, which need not be read for the first look then.

    Raises:
        AntcacheError: it can't be read now, and may be intact.
    """
    try:
        if not _look(backend, key, count, unknown, streams):
            return []
        return _look(backend, key, uncounted, unknown) if backend.has(key) else []
    except AntcacheError:
        raise
    except OSError as error:
        raise refused(backend.where(key), error) from error


def _look(
    backend: Backend,
    key: str,
    count: Count,
    unknown: Collection[str],
    streams: Mapping[str, Stream] | None = None,
) -> list[DamagedPart]:
    """What is wrong with a unit, looked at once."""
    wrong = backend.damaged_parts(key, count)
    if wrong:
        return [DamagedPart(key, what) for what in wrong]
    group = key.rpartition("/")[0]
    needed = {"", "labels"} if group in ("labels", "targets") else {group}
    if needed.intersection(unknown):
        return []
    try:
        Store(backend).check(key, settings=(streams or {}).get(group))
    except MissingKey:  # gone meanwhile
        return []
    except DamagedStore as error:
        return [DamagedPart(key, MEANING, str(error))]
    return []


def _groups(backend: Backend) -> Iterator[str]:
    """Keys of the groups that are there, or should be by what lies in them; the root is one."""
    yield ""
    for key in GROUPS:
        if backend.group_text(key) is not None or backend.group_damaged(key):
            yield key
    for name in backend.groups("features"):
        yield f"features/{name}"
