"""Files and folders that appear as a whole: the only place that writes them so.

Promise: what is written gets its name when all of it is on the disk, with the permissions that the
umask gives, or not at all; what it replaces stands until then. A disk that refuses is a
`WriteFailed`, and leaves nothing. What a killed writer left is known by its name, is in nobody's
way, and is removed by the next one that writes into the same folder (where there are locks, which
tell it from work in progress).

A writer works in a folder of its own beside the target, `.NAME.<32 hex digits>`, and holds the lock
that lies beside that. Two folders change places in one step, so that the old one is never absent.
Where the system can't do that, the old one steps aside first: killed in that moment, nothing is
lost, and whoever writes or asks there next puts the old one back.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from antcache.errors import AlreadyExists, AntcacheError, WriteFailed
from antcache.files.disk import exchange, flush, flush_one, make_folders, remove_folder, rename_new
from antcache.files.locks import hold

LOCK = ".lock"
REPLACE_HINT = "choose another name, or overwrite it: --overwrite (overwrite=True)"
"""What to do about something that is there, for those of a command line and of a program."""

REPLACED = "replaced"
"""Name in staging of what holds a folder that stepped aside, under its own name."""

LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}(\.lock)?", re.DOTALL)
LONGEST_NAME = 200
"""Bytes of a name that still fit into the name of its staging folder."""


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Where to write a file that is at `path` once the context has ended well.

    Folders above it are made. A link at `path` stays one: what it points to is written.

    Raises:
        AlreadyExists: see `check_file`; also if it has come since.
        WriteFailed: the disk refused; nothing was changed.
    """
    target = _real(path)
    with writing(path), _staging(target) as folder:
        check_file(path, overwrite=overwrite)
        staged = folder / target.name
        yield staged
        _give_umask(staged, folder)
        flush(staged)
        check_file(path, overwrite=overwrite)
        if overwrite:
            os.replace(staged, target)  # noqa: PTH105
        else:
            try:
                rename_new(staged, target)
            except FileExistsError as error:
                raise _already_here(path) from error
        flush_one(target.parent)


def check_file(path: Path, *, overwrite: bool = False) -> None:
    """Refuse an output file that would cost somebody something.

    Raises:
        AlreadyExists: something is there and `overwrite` is false, or it is a folder.
    """
    if path.is_dir():
        raise AlreadyExists("a folder is here", where=path, hint="name a file to write")
    if path.exists() and not overwrite:
        raise _already_here(path)


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that is written as a whole.

    Attributes:
        what: `a teacher`, for errors.
        mark: name of the file by which it is known; nothing else is ever replaced.
    """

    what: str
    mark: str

    def check(self, path: Path, *, overwrite: bool = False) -> None:
        """Refuse an output folder that would cost somebody something.

        Raises:
            AlreadyExists: something is there and `overwrite` is false, or it is of no such kind.
        """
        target = _real(path)
        clear_leftovers(target.parent)
        if is_vacant(target):
            return
        if not (target / self.mark).is_file():
            raise AlreadyExists(f"something that is not {self.what} is already here", where=path)
        if not overwrite:
            raise AlreadyExists(
                f"{self.what} is already here",
                where=path,
                hint=REPLACE_HINT,
            )


@contextlib.contextmanager
def atomic_folder(
    path: Path, kind: FolderKind | None = None, *, overwrite: bool = False
) -> Iterator[Path]:
    """An empty folder that is at `path`, with what was written into it, once the context has ended
    well.

    Args:
        path: where nothing, an empty folder, or with `overwrite` a folder of the same kind is.
        kind: what is written; without one nothing is replaced.
        overwrite: take the place of one that is there.

    Raises:
        AlreadyExists: see `FolderKind.check`; also if it has come since.
        WriteFailed: the disk refused; nothing was changed.
    """
    target = _real(path)
    with writing(path), _staging(target) as folder:
        _check_folder(path, kind, overwrite)
        staged = folder / target.name
        staged.mkdir()
        yield staged
        _give_umask(staged, folder)
        flush(staged)
        _check_folder(path, kind, overwrite)
        if is_vacant(target):
            clear_leftovers(target)
            try:
                os.rename(staged, target)  # noqa: PTH104
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                raise _already_here(path) from error
        elif not overwrite:  # it has come since it was looked for
            raise _already_here(path)
        elif not exchange(staged, target):
            # Two steps; `_discard` takes back the first if the second does not come.
            (folder / REPLACED).mkdir()
            os.rename(target, folder / REPLACED / target.name)  # noqa: PTH104
            os.rename(staged, target)  # noqa: PTH104
        flush_one(target.parent)


def _check_folder(path: Path, kind: FolderKind | None, overwrite: bool) -> None:
    if kind is not None:
        kind.check(path, overwrite=overwrite)
    elif not is_vacant(_real(path)):
        raise _already_here(path)


def is_vacant(path: Path) -> bool:
    """Whether nothing is at `path`, or a folder that holds at most what killed writers left."""
    return not found_at(path)


def found_at(path: Path, besides: Collection[str] = ()) -> list[str]:
    """Names of what is in the folder `path`; of no folder but a file or a link, its own.

    The folder is looked at once, as another process may make or remove it at the same moment.

    Args:
        path: a folder, or what is in its place; nothing is found where nothing is.
        besides: names that are not told, as what killed writers left is not.

    Raises:
        OSError: a folder is there that can't be looked into.
    """
    try:
        names = [each.name for each in path.iterdir()]
    except FileNotFoundError:
        return [path.name] if path.is_symlink() else []  # it leads nowhere
    except (OSError, ValueError):
        if os.path.isdir(path):  # noqa: PTH112 - which no name makes fail
            raise
        # A file, or a name that none can have: that nothing can be made there is said then.
        return [path.name] if os.path.lexists(path) else []
    return sorted(name for name in names if name not in besides and not is_leftover(name))


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name belongs to a writer, who may have been killed."""
    return LEFTOVER.fullmatch(name) is not None


def clear_leftovers(folder: Path) -> None:
    """Remove what killed writers left in a folder: whatever nobody holds."""
    with contextlib.suppress(OSError):  # what is not ours to look into, or to remove
        names = {each.name for each in folder.iterdir() if is_leftover(each.name)}
        for name in {name.removesuffix(LOCK) for name in names}:
            with hold(folder / (name + LOCK), without=False) as ours:
                if ours:
                    _discard(folder / name)


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder of our own beside `target`, removed afterwards whatever happens."""
    make_folders(target.parent)
    clear_leftovers(target.parent)
    while True:
        folder = target.with_name(_prefix(target) + uuid.uuid4().hex)
        with hold(folder.with_name(folder.name + LOCK)) as ours:
            if not ours:
                continue  # a sweeper took it for a killed process's
            try:
                folder.mkdir()
                yield folder
            finally:
                _discard(folder)
            return


def _prefix(target: Path) -> str:
    """How the names of the staging folders of `target` begin."""
    name = os.fsencode(target.name)
    if len(name) > LONGEST_NAME:
        return f".{hashlib.blake2b(name, digest_size=16).hexdigest()}."
    return f".{target.name}."


def _discard(folder: Path) -> None:
    """Remove a staging folder, after putting back what stepped aside for nothing."""
    asides = folder / REPLACED
    if not folder.is_symlink() and asides.is_dir() and not asides.is_symlink():
        for aside in asides.iterdir():
            target = folder.with_name(aside.name)
            if not os.path.lexists(target):
                os.rename(aside, target)  # noqa: PTH104
                flush_one(target.parent)
    remove_folder(folder)


def _give_umask(path: Path, like: Path) -> None:
    """Give files the permissions that the umask gave to the folder `like`.

    safetensors makes its files readable by their owner alone.
    """
    mode = like.stat().st_mode & 0o666
    for file in (path,) if not path.is_dir() else path.rglob("*"):
        if file.is_file() and file.stat().st_mode & 0o777 != mode:
            with contextlib.suppress(PermissionError):  # a file system without permissions
                file.chmod(mode)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk says of a write to `path`, a file or folder, into our error.

    What it says of another file, such as one that is read meanwhile, is left as it is.

    Raises:
        WriteFailed: the disk refused.
    """
    try:
        yield
    except AntcacheError:
        raise
    except OSError as error:
        if not _concerns(error, path):
            raise
        raise WriteFailed.because(error, path) from error


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error names `path`, what is in it or staged for it, a folder above, or no file."""
    if not isinstance(error.filename, str | bytes):
        return True
    named, target = Path(os.fsdecode(error.filename)).absolute(), _real(path)
    if named in (path.absolute(), target, *target.parents) or target in named.parents:
        return True
    above, inside = target.parts[:-1], named.parts
    return inside[: len(above)] == above and inside[len(above)].startswith(_prefix(target))


def _already_here(path: Path) -> AlreadyExists:
    return AlreadyExists("something is already here", where=path, hint=REPLACE_HINT)


def _real(path: Path) -> Path:
    """Where `path` leads, so that what is staged lies on the same disk and links stay links."""
    return Path(os.path.realpath(path))
