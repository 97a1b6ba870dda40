"""What of a stream lies in a dataset repository of a hub: files, their sizes and their hashes.

Promise: a name from the hub is believed where it can only lie in the stream; any other file of the
repository is left alone. A repository holds streams as a store does, so that a clone of it is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antcache.errors import BadConfig
from antcache.text import is_video_name

GROUP_FILES = {"zarr": "zarr.json", "hdf5": "attributes.json"}
"""Name of a group's file in a store of each form."""
BLOCK_BYTES = 1 << 20
DEEPEST, LONGEST = 12, 1024
"""Folders and characters of a file's name: those of a unit are far fewer."""
MOST_FILES = 1 << 22
"""Of a repository that is listed: a hub advises against a fortieth of that."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub.

    Attributes:
        size: in bytes.
        blob: git's hash of the text, of a file that git holds.
        sha256: of the values, of a file that lies beside git, else empty.
    """

    size: int
    blob: str
    sha256: str = ""

    def is_like(self, path: Path) -> bool:
        """Whether a file here has the same bytes."""
        size = path.stat().st_size
        if size != self.size:
            return False
        digest = hashlib.sha256() if self.sha256 else hashlib.sha1(b"blob %d\0" % size)
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest() == (self.sha256 or self.blob)


@dataclass(frozen=True)
class Listing:
    """What a repository holds of one stream.

    Attributes:
        commit: that was looked at.
        groups: the groups' files by name.
        units: video -> its files by name.
    """

    commit: str
    groups: dict[str, RemoteFile] = field(default_factory=dict)
    units: dict[str, dict[str, RemoteFile]] = field(default_factory=dict)

    @property
    def form(self) -> str:
        """Of the store: zarr or hdf5; empty where nothing is."""
        return next((form for form, name in GROUP_FILES.items() if name in self.groups), "")


def group_files(stream: str, form: str) -> tuple[str, ...]:
    """Names of the files that a stream needs beside its units."""
    name = GROUP_FILES[form]
    return (name, f"features/{name}", f"features/{stream}/{name}")


def list_stream(api: Any, repo: str, stream: str, *, revision: str | None = None) -> Listing:
    """What the dataset repository `repo` holds of `stream`.

    Args:
        api: huggingface_hub's `HfApi`.
        repo: hub id.
        stream: name.
        revision: branch, tag or commit; the default branch unless given.

    Raises:
        ValueError: the list does not end.
        Whatever huggingface_hub raises; see `hub.talking`, which takes both.
    """
    commit = api.repo_info(repo, repo_type="dataset", revision=revision).sha
    found = Listing(commit)
    wanted = {name for form in GROUP_FILES for name in group_files(stream, form)}
    begin = f"features/{stream}/"
    if not commit:
        return found
    listed = api.list_repo_tree(repo, recursive=True, repo_type="dataset", revision=commit)
    first = ""
    for number, each in enumerate(listed):
        first = first or each.path
        if number == MOST_FILES or (number and each.path == first):  # the same page again
            raise ValueError("a list without an end")
        size = getattr(each, "size", None)
        if type(size) is not int or size < 0:  # a folder
            continue
        lfs = getattr(each, "lfs", None)
        file = RemoteFile(size, str(each.blob_id), "" if lfs is None else str(lfs.sha256))
        if each.path in wanted:
            found.groups[each.path] = file
        elif each.path.startswith(begin) and (video := _video(each.path[len(begin) :])):
            found.units.setdefault(video, {})[each.path] = file
    return found


def _video(rest: str) -> str:
    """The video that a file of a stream belongs to, empty where it can belong to none."""
    parts = rest.split("/")
    if len(rest) > LONGEST or len(parts) > DEEPEST:
        return ""
    if any(not part or part.startswith(".") or "\\" in part for part in parts):
        return ""
    video = parts[0] if len(parts) > 1 else parts[0].removesuffix(".h5")
    alone = len(parts) == 1 and not parts[0].endswith(".h5")
    return "" if alone or not is_video_name(video) else video


def check_form(found: Listing, form: str, where: str) -> None:
    """Refuse a repository that holds streams of another form of store.

    Raises:
        BadConfig: it does.
    """
    if found.form and found.form != form:
        raise BadConfig(
            "the repository holds a store of another form",
            where=where,
            expected=form,
            found=found.form,
            hint="antcache store convert makes a copy of that form",
        )


def same(files: Mapping[str, Path], there: Mapping[str, RemoteFile]) -> bool:
    """Whether files here are those on the hub, no more and no fewer."""
    return files.keys() == there.keys() and all(there[n].is_like(p) for n, p in files.items())
