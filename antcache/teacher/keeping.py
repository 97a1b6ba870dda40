"""A teacher and its soft targets: two places, kept so that a kill between them is made up for.

Promise: the folder is there before its targets are, and says in `pending.json` that they are not,
until they are. A training that is started again in such a folder replaces it, and the targets if
they came from it; what was finished is replaced only where that was asked for. One process at a
time trains for a folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antcache.errors import AlreadyExists, BadConfig
from antcache.files import FolderKind, flush_one, writing
from antcache.locks import alone, lock_beside
from antcache.store import SoftTargets, Store
from antcache.store.format import CHECKSUMS, checksums
from antcache.store.location import beside

PENDING = "pending.json"
"""File in a folder whose targets are not in the store yet: their name and their checksums."""


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
    if top_k is not None and not 1 <= top_k <= classes:
        raise BadConfig("impossible top-k", expected=f"1 to {classes}", found=top_k)
    if name in store.target_names() and not overwrite:
        raise AlreadyExists(
            "soft targets of this name are already there",
            where=f"{store.path}: targets/{name}",
            hint="choose another name, or --overwrite",
        )


def cut(targets: SoftTargets, top_k: int | None) -> SoftTargets:
    """The targets, with their k best classes alone if asked for."""
    return targets if top_k is None else targets.top_k(top_k)


@dataclass(frozen=True)
class Place:
    """Where a teacher and its targets go, which is this process's alone; see `place_for`.

    Attributes:
        replaces_folder: whether a folder that is there is replaced: asked for, or unfinished.
        replaces_targets: likewise the targets of the store.
    """

    store: Store
    name: str
    folder: Path
    replaces_folder: bool
    replaces_targets: bool

    def pending(self, targets: SoftTargets) -> dict[str, str]:
        """The file, by name, that says in the folder that `targets` are not in the store yet."""
        account = {"targets": self.name, CHECKSUMS: checksums(targets.arrays())}
        return {PENDING: json.dumps(account, indent=1) + "\n"}

    def publish(self, targets: SoftTargets) -> None:
        """Write the targets of the folder that is there now, and say so in it.

        Raises:
            WriteFailed: the disk refused; the same training may be started again.
        """
        self.store.write_targets(self.name, targets, overwrite=self.replaces_targets)
        with writing(self.folder / PENDING):
            (self.folder / PENDING).unlink()
            flush_one(self.folder)


@contextmanager
def place_for(
    store: Store,
    name: str,
    folder: Path,
    kind: FolderKind,
    *,
    top_k: int | None,
    overwrite: bool,
) -> Iterator[Place]:
    """The place of a teacher in `folder` and its targets `name`, checked before any work.

    Raises:
        AlreadyExists: the folder or the targets are there and `overwrite` is false, or another
            process is training for the folder.
        BadConfig, MissingKey: see `check_targets`.
    """
    busy, hint = "another process is training it", "choose another name"
    with alone(lock_beside(folder), busy, where=folder, hint=hint):
        unfinished = _pending(folder)
        place = Place(
            store=store,
            name=name,
            folder=folder,
            replaces_folder=overwrite or unfinished is not None,
            replaces_targets=overwrite or _came_from(store, name, unfinished or {}),
        )
        kind.check(folder, overwrite=place.replaces_folder)
        check_targets(store, name, top_k, overwrite=place.replaces_targets)
        yield place


def _pending(folder: Path) -> dict[str, Any] | None:
    """What an unfinished training says in its folder; None if there is none."""
    try:
        found = json.loads((folder / PENDING).read_bytes())
    except OSError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _came_from(store: Store, name: str, unfinished: Mapping[str, Any]) -> bool:
    """Whether the store's targets are those that an unfinished training was about to write."""
    if unfinished.get("targets") != name or name not in store.target_names():
        return False
    _, attributes = store.backend.open(f"targets/{name}")
    return bool(attributes.get(CHECKSUMS) == unfinished.get(CHECKSUMS))
