"""A stream of a store onto a hub: what is missing there, a few units a commit.

Promise: every unit is read and compared with its checksums before it leaves. A commit has whole
units, so that whoever interrupts a push leaves some units there whole, and the same call goes on
with the others. Nothing on the hub is replaced: other values under the same name are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch, needs
from antcache.hub import talking
from antcache.interop.hub.listing import check_form, group_files, list_stream, same
from antcache.progress import Progress, silent
from antcache.store.store import Store

log = logging.getLogger(__name__)

COMMIT_BYTES, COMMIT_FILES = 256 << 20, 500
"""What goes into one commit, but for a unit that is larger."""


@dataclass(frozen=True, kw_only=True)
class PushReport:
    """What a push did.

    Attributes:
        repo: hub id.
        stream: name.
        written: units that are new on the hub.
        skipped: units that were there before.
        num_bytes: size of the files of `written`.
        commits: how many were made.
    """

    repo: str
    stream: str
    written: tuple[str, ...]
    skipped: tuple[str, ...]
    num_bytes: int
    commits: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def push_stream(
    store: Store,
    repo: str,
    stream: str,
    *,
    private: bool = False,
    progress: Progress = silent,
) -> PushReport:
    """Bring the units of a stream that a dataset repository of the hub lacks there.

    Args:
        store: on a disk.
        repo: hub id; made if there is none.
        stream: name of the stream.
        private: of a repository that is made here: nobody else may see it.
        progress: called with `videos` and `MB`.

    Raises:
        MissingKey: the store has no such stream.
        BadConfig: the store lies at a URL; the name is no hub id; the repository has another form.
        DamagedStore: a unit is not as it was written; it is not pushed.
        FingerprintMismatch: the repository has a stream of this name with other settings.
        AlreadyExists: it has other values under a unit's name.
        Unreachable: the hub does not answer, or refuses.
        MissingExtra: huggingface_hub is not installed.
    """
    root = store.path
    if not isinstance(root, Path):
        raise BadConfig(
            "only a store on a disk can be pushed",
            where=root,
            hint="antcache store convert copies it to one",
        )
    store.stream(stream)  # it is there, and its settings are those of its fingerprint
    with needs("huggingface_hub", "hub"):
        from huggingface_hub import HfApi
    api, form = HfApi(), store.kind
    groups = {name: root / name for name in group_files(stream, form)}
    with talking(repo):
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        there = list_stream(api, repo, stream)
    check_form(there, form, repo)
    last = group_files(stream, form)[-1]
    if last in there.groups and not there.groups[last].is_like(groups[last]):
        raise FingerprintMismatch(
            "the repository has a stream of this name with other settings",
            where=repo,
            found=stream,
            hint="push it under another name, or into another repository",
        )
    skipped, todo = [], []
    for video in store.videos(stream):
        files = _files(root, store.backend.location(f"features/{stream}/{video}"))  # type: ignore[attr-defined]
        if video not in there.units:
            todo.append((video, files))
        elif same(files, there.units[video]):
            skipped.append(video)
        else:
            raise AlreadyExists(
                "the repository has other values of a unit",
                where=f"{repo}: features/{stream}/{video}",
                hint="remove it there, or push into another repository",
            )
    lacking = {name: path for name, path in groups.items() if name not in there.groups}
    total = sum(_size(files) for _, files in todo)
    written: list[str] = []
    commits = sent = 0
    for batch in _batches(todo):
        for video, _ in batch:
            store.check(f"features/{stream}/{video}")
            store.backend.read(f"features/{stream}/{video}")  # compares every value
        files = {**lacking, **{name: path for _, each in batch for name, path in each.items()}}
        _commit(api, repo, files, f"Add {len(batch)} of {stream}")
        lacking = {}
        commits += 1
        written += [video for video, _ in batch]
        sent += sum(_size(each) for _, each in batch)
        log.info("%s: %d units of %s", repo, len(written), stream)
        progress("videos", len(written), len(todo))
        progress("MB", sent / 1e6, total / 1e6)
    if lacking:  # a stream without units
        _commit(api, repo, lacking, f"Add {stream}")
        commits += 1
    return PushReport(
        repo=repo,
        stream=stream,
        written=tuple(written),
        skipped=tuple(skipped),
        num_bytes=total,
        commits=commits,
    )


Unit = tuple[str, dict[str, Path]]


def _files(root: Path, place: Path) -> dict[str, Path]:
    """The files of a unit, by their names in the store."""
    found = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return {path.relative_to(root).as_posix(): path for path in sorted(found)}


def _size(files: dict[str, Path]) -> int:
    return sum(path.stat().st_size for path in files.values())


def _batches(units: list[Unit]) -> Iterator[list[Unit]]:
    batch: list[Unit] = []
    num_bytes = num_files = 0
    for unit in units:
        size, files = _size(unit[1]), len(unit[1])
        if batch and (num_bytes + size > COMMIT_BYTES or num_files + files > COMMIT_FILES):
            yield batch
            batch, num_bytes, num_files = [], 0, 0
        batch.append(unit)
        num_bytes, num_files = num_bytes + size, num_files + files
    if batch:
        yield batch


def _commit(api: Any, repo: str, files: dict[str, Path], message: str) -> None:
    from huggingface_hub import CommitOperationAdd

    with talking(repo):
        api.create_commit(
            repo,
            [CommitOperationAdd(name, path) for name, path in sorted(files.items())],
            commit_message=message,
            repo_type="dataset",
        )
