"""A teacher and its soft targets: two places, kept so that a kill between them is made up for.

Promise: the folder is there before its targets are, and says so in `made.json` until they are. A
training that is started again in such a folder replaces it, and the targets if they came from it.
One that came to its end is done when it is started again; any other is refused unless it was asked
to replace. One process at a time trains for a folder.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from antcache import __version__
from antcache.checks import at_least
from antcache.errors import AlreadyExists
from antcache.files import REPLACE_HINT, FolderKind, atomic_file, clear_leftovers
from antcache.files.locks import exclusively, lock_beside
from antcache.store import SoftTargets, Store
from antcache.store.format import CHECKSUMS, checksums, fingerprint
from antcache.store.location import beside
from antcache.untrusted import read_json

log = logging.getLogger(__name__)

MADE = "made.json"
"""File in a folder: what it was made by, the targets that it gave, and whether these are `pending`:
not in the store yet."""


def teacher_folder(store: Store, name: str) -> Path:
    """Where the teacher of the soft targets `name` is kept: beside the store, in the current folder
    for one at a URL."""
    return beside(store.path, ".teachers") / name


def check_targets(store: Store, name: str, top_k: int | None, *, overwrite: bool) -> None:
    """Refuse, before any work, what could not be written after it.

    Raises:
        BadConfig: `top_k` is out of range.
        AlreadyExists: the store has targets of this name and `overwrite` is false.
        MissingKey: the store has no labels.
    """
    classes = len(store.taxonomy.actions)
    if top_k is not None:
        at_least("top-k", top_k, 1, classes)
    if name in store.target_names() and not overwrite:
        raise AlreadyExists(
            "soft targets of this name are already there",
            where=f"{store.path}: targets/{name}",
            hint=REPLACE_HINT,
        )


def cut_to_top_k(targets: SoftTargets, top_k: int | None) -> SoftTargets:
    """The targets, with their k best classes alone if asked for."""
    return targets if top_k is None else targets.top_k(top_k)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a teacher and its targets go, which is this process's alone; see `place_for`.

    Attributes:
        store: which holds the targets.
        name: of the targets.
        folder: of the teacher.
        command: hash of what makes both.
        replaces_folder: whether a folder that is there is replaced: asked for, or unfinished.
        replaces_targets: likewise the targets of the store.
        done: the targets, if this very training has come to its end before.
    """

    store: Store
    name: str
    folder: Path
    command: str
    replaces_folder: bool
    replaces_targets: bool
    done: SoftTargets | None

    def made_file(self, targets: SoftTargets, *, pending: bool = True) -> dict[str, str]:
        """The file, by name, that says in the folder what it was made by and gave."""
        made = {"command": self.command, "targets": self.name, "pending": pending}
        made |= {CHECKSUMS: checksums(targets.arrays())}
        return {MADE: json.dumps(made, indent=1) + "\n"}

    def publish(self, targets: SoftTargets) -> None:
        """Write the targets of the folder that is there now, and say so in it.

        Raises:
            WriteFailed: the disk refused; the same training may be started again.
        """
        self.store.write_targets(self.name, targets, overwrite=self.replaces_targets)
        with atomic_file(self.folder / MADE, overwrite=True) as staged:
            staged.write_text(self.made_file(targets, pending=False)[MADE], "utf-8")


@contextmanager
def place_for(
    store: Store,
    name: str,
    folder: Path,
    kind: FolderKind,
    command: Mapping[str, Any],
    *,
    top_k: int | None,
    overwrite: bool,
) -> Iterator[Place]:
    """The place of a teacher in `folder` and its targets `name`, checked before any work.

    Args:
        store: which holds the targets.
        name: of the targets.
        folder: of the teacher.
        kind: of the folder.
        command: JSON-ready account of what makes both, beside the store's labels.
        top_k: how many classes the targets are cut to.
        overwrite: replace what is there.

    Raises:
        AlreadyExists: the folder or the targets are there and `overwrite` is false, or another
            process is training for the folder.
        BadConfig, MissingKey: see `check_targets`.
    """
    busy, hint = "another process is training it", "choose another name"
    with exclusively(lock_beside(folder), busy, where=folder, hint=hint):
        made = _read(folder / MADE)
        came = _came_from(store, name, made)
        pending = bool(made.get("pending", False))
        place = Place(
            store=store,
            name=name,
            folder=folder,
            command=_hash(store, {**command, "top_k": top_k}),
            replaces_folder=overwrite or pending,
            replaces_targets=overwrite or (pending and came),
            done=None,
        )
        if came and not pending and not overwrite and made.get("command") == place.command:
            log.warning("%s: this training is done already; nothing is trained", folder)
            for left in (folder.parent, folder):
                clear_leftovers(left)
            store.backend.remove_leftovers()
            yield replace(place, done=store.targets(name))
            return
        kind.check(folder, overwrite=place.replaces_folder)
        check_targets(store, name, top_k, overwrite=place.replaces_targets)
        yield place


def _read(path: Path) -> dict[str, Any]:
    """What a folder was made by; empty if it does not say, `pending` if that can't be read."""
    try:
        found = read_json(path)
    except OSError:
        return {}
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"pending": True}


def _came_from(store: Store, name: str, made: Mapping[str, Any]) -> bool:
    """Whether the store's targets are those that a folder gave."""
    if made.get("targets") != name or name not in store.target_names():
        return False
    _, attributes = store.backend.open(f"targets/{name}")
    return bool(attributes.get(CHECKSUMS) == made.get(CHECKSUMS))


def _hash(store: Store, command: Mapping[str, Any]) -> str:
    """Of all that a training depends on: its account, the labels, this version."""
    labels = {
        split: store.backend.open(f"labels/{split}")[1][CHECKSUMS] for split in store.splits()
    }
    return fingerprint({**command, "labels": labels, "antcache": __version__})


def folder_state(path: str) -> list[Any]:
    """What tells of a folder of files, say a model's, whether it is still the same; empty if there
    is none."""
    if not path or not Path(path).is_dir():  # the empty path would be the current folder
        return []
    files = sorted(Path(path).rglob("*"))
    return [(str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
