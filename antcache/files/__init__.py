"""Files and folders that appear as a whole or not at all, and who may write them."""

from antcache.files.atomic import (
    LOCK,
    REPLACE_HINT,
    FolderKind,
    atomic_file,
    atomic_folder,
    check_file,
    clear_leftovers,
    found_at,
    is_leftover,
    is_vacant,
    writing,
)

__all__ = [
    "LOCK",
    "REPLACE_HINT",
    "FolderKind",
    "atomic_file",
    "atomic_folder",
    "check_file",
    "clear_leftovers",
    "found_at",
    "is_leftover",
    "is_vacant",
    "writing",
]
