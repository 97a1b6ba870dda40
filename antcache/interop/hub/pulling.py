"""A stream from a hub into a store: what is missing here, each unit checked before it is published.

Promise: what comes from a hub is hostile until it was compared with its own checksums, by the same
code that reads any store; what does not fit is named and published nowhere. A pull that was
interrupted goes on with what is missing. All files are of one commit.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

from antcache.errors import DamagedStore, MissingKey, NotAStore, needs
from antcache.hub import talking
from antcache.interop.hub.listing import Listing, RemoteFile, group_files, list_stream
from antcache.progress import Progress, silent
from antcache.store.backends import is_empty
from antcache.store.format import check_name
from antcache.store.integrity.convert import ConvertConfig, convert
from antcache.store.location import Location, parse_location
from antcache.store.store import Store

log = logging.getLogger(__name__)

BATCH_BYTES, BATCH_UNITS = 256 << 20, 64
"""What is fetched before it is published, but for a unit that is larger."""
CONNECTIONS = 8
GROUP_BYTES = 16 << 20
"""The largest file of a group that is fetched."""


@dataclass(frozen=True, kw_only=True)
class PullReport:
    """What a pull did.

    Attributes:
        repo: hub id.
        commit: that was pulled.
        stream: name.
        target: the store.
        written: units that are new in it.
        skipped: units that it had before.
        num_bytes: size of the files that were fetched.
    """

    repo: str
    commit: str
    stream: str
    target: str
    written: tuple[str, ...]
    skipped: tuple[str, ...]
    num_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def pull_stream(
    repo: str,
    target: Location,
    stream: str,
    *,
    revision: str | None = None,
    progress: Progress = silent,
) -> PullReport:
    """Bring the units of a stream of a dataset repository that a store lacks into it.

    Args:
        repo: hub id.
        target: a store, or where nothing is.
        stream: name of the stream.
        revision: branch, tag or commit; the default branch unless given.
        progress: called with `videos` and `MB`.

    Raises:
        NotFound: there is no such repository or revision.
        MissingKey: it has no such stream.
        DamagedStore: what came is not as it was written; it is not published.
        FingerprintMismatch: the store has a stream of this name with other settings, or is of
            another dataset.
        AlreadyExists: the store has other values under a unit's name.
        Unreachable: the hub does not answer, or refuses.
        WriteFailed: the disk refused.
        MissingExtra: huggingface_hub is not installed.
    """
    check_name(stream, "stream")
    place = parse_location(target)
    with needs("huggingface_hub", "hub"):
        from huggingface_hub import HfApi
    with talking(repo):
        found = list_stream(HfApi(), repo, stream, revision=revision)
    groups = group_files(stream, found.form) if found.form else ()
    if not groups or any(name not in found.groups for name in groups):
        raise MissingKey("the repository has no such stream", where=repo, found=stream)
    if any(found.groups[name].size > GROUP_BYTES for name in groups):
        raise DamagedStore(f"{repo}: a group's file of more than {GROUP_BYTES} bytes")
    existing = None if is_empty(place) else Store.open(place)
    had = set()
    if existing is not None and stream in existing.streams():
        had = set(existing.videos(stream, listed=True))
    todo = [video for video in sorted(found.units) if video not in had]
    total = sum(_size(found.units[video]) for video in todo)
    written: list[str] = []
    num_bytes = 0
    with tempfile.TemporaryDirectory(prefix="antcache-pull-") as folder:
        fetched = Path(folder)
        _fetch(repo, found, groups, fetched)
        # First without units: settings that do not fit are refused before much is fetched.
        for batch in [[], *_batches(found, todo)]:
            files = [name for video in batch for name in found.units[video]]
            _fetch(repo, found, files, fetched)
            with _as_it_came(repo, fetched):
                report = convert(Store.open(fetched), place, ConvertConfig(streams=(stream,)))
            written += [key.rpartition("/")[2] for key in report.written]
            num_bytes += sum(_size(found.units[video]) for video in batch)
            log.info("%s: %d units of %s", repo, len(written), stream)
            progress("videos", len(written), len(todo))
            progress("MB", num_bytes / 1e6, total / 1e6)
            _clear(fetched / "features" / stream, keep=Path(groups[-1]).name)
    return PullReport(
        repo=repo,
        commit=found.commit,
        stream=stream,
        target=str(place),
        written=tuple(written),
        skipped=tuple(sorted(had & found.units.keys())),
        num_bytes=num_bytes,
    )


def _clear(folder: Path, *, keep: str) -> None:
    """Remove the units that were published: a stream may be larger than the disk for scratch."""
    for each in folder.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif each.name != keep:
            each.unlink()


def _size(files: Mapping[str, RemoteFile]) -> int:
    return sum(file.size for file in files.values())


def _batches(found: Listing, videos: list[str]) -> list[list[str]]:
    batches: list[list[str]] = []
    num_bytes = 0
    for video in videos:
        size = _size(found.units[video])
        if not batches or num_bytes + size > BATCH_BYTES or len(batches[-1]) == BATCH_UNITS:
            batches.append([])
            num_bytes = 0
        batches[-1].append(video)
        num_bytes += size
    return batches


def _fetch(repo: str, found: Listing, names: list[str] | tuple[str, ...], folder: Path) -> None:
    """Bring files of the commit into a folder, under their names; no cache is filled.

    Raises:
        DamagedStore: what comes is more than the hub lists, or something else.
    """
    from huggingface_hub import close_session, hf_hub_download

    listed = {**found.groups, **{n: f for unit in found.units.values() for n, f in unit.items()}}
    stopped = Event()

    def fetch(name: str) -> None:
        path = hf_hub_download(
            repo,
            name,
            repo_type="dataset",
            revision=found.commit,
            local_dir=folder,
            tqdm_class=_counter(f"{repo}: {name}", listed[name].size, stopped),
        )
        if not listed[name].is_like(Path(path)):
            raise _other(f"{repo}: {name}")

    with talking(repo), ThreadPoolExecutor(CONNECTIONS) as pool:
        fetching = [pool.submit(fetch, name) for name in names]
        try:
            for each in as_completed(fetching):
                each.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Else the pool waits for what is under way, whose end may be far, or for one more byte.
            stopped.set()
            close_session()
            raise


def _counter(where: str, size: int, stopped: Event) -> Any:
    """What huggingface_hub tells of each portion of a file that came; it shows nothing.

    It refuses a file of more than `size` bytes, and any when `stopped` is set.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Counter(tqdm):  # type: ignore[misc]
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            super().__init__(disable=True)
            self.came: float = initial

        def update(self, n: float | None = 1) -> bool | None:
            self.came += n or 0
            if stopped.is_set() or self.came > size:
                raise _other(where)
            return None

    return Counter


def _other(where: str) -> DamagedStore:
    return DamagedStore(
        "other bytes came than the hub lists", where=where, hint="nothing of it was published"
    )


@contextmanager
def _as_it_came(repo: str, folder: Path) -> Iterator[None]:
    """Say what is wrong with what came of the repository, in place of the folder it came to.

    Raises:
        DamagedStore: it is not as it was written, or nothing that antcache wrote.
    """
    try:
        yield
    except (DamagedStore, NotAStore) as error:
        if str(folder) not in str(error):  # the store here
            raise
        text = str(error).replace(f"{folder}/", "").replace(str(folder), "the repository")
        raise DamagedStore(
            "what came is not as antcache writes it",
            where=repo,
            found=re.sub(r" \(antcache store repair[^()]*\)", "", text),
            hint="nothing of it was published; its owner can push it again",
        ) from error
