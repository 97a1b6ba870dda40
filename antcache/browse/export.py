"""The page as files, which any browser opens without a server.

Promise: the folder appears as a whole or not at all, and nothing is replaced. It holds what the
server would give, but for the pictures of single segments; documents are scripts that hand their
JSON to the page, as a page from a disk may read no other files.
"""

from __future__ import annotations

from pathlib import Path

from antcache.browse.server import PAGE, page_file
from antcache.browse.shelf import Shelf
from antcache.errors import AlreadyExists
from antcache.files import atomic_folder, is_vacant
from antcache.progress import Progress, silent

MARK = b"<html "
"""Where the page is told that it lies in files."""


def check_export(path: Path) -> None:
    """Refuse a folder that would cost somebody something.

    Raises:
        AlreadyExists: something is there.
    """
    if not is_vacant(path):
        raise AlreadyExists("something is already here", where=path, hint="choose another name")


def export_pages(shelf: Shelf, path: Path, *, progress: Progress = silent) -> int:
    """Write the page and all its documents into a new folder; open `index.html` in it.

    Args:
        shelf: what it shows.
        path: where nothing, or an empty folder, is.
        progress: called with "files".

    Returns:
        How many files were written.

    Raises:
        AlreadyExists: something is there.
        WriteFailed: the disk refused; nothing was changed.
    """
    check_export(path)
    names = list(shelf.names())
    with atomic_folder(path) as staged:
        for name in PAGE:
            content = page_file(name)
            if not name:
                content = content.replace(MARK, MARK + b'data-from="files" ', 1)
            (staged / (name or "index.html")).write_bytes(content)
        data = staged / "data"
        data.mkdir()
        for done, name in enumerate(names, start=1):
            # JSON in ASCII is a value of JavaScript, too.
            text = b'antcache("' + name.encode("ascii") + b'",' + shelf.document(name) + b");\n"
            (data / f"{name}.js").write_bytes(text)
            progress("files", done, len(names))
    return len(PAGE) + len(names)
