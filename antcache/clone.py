"""In a clone, `antcache.kernels` and `antcache.cli` are the folders beside this one.

Promise: a clone can be imported without an install, and its code never runs with the kernels or
commands of another one that is installed. Where an install has put the two inside this folder, or
everything into a zip file, nothing is done.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {"antcache.kernels": ROOT / "kernels", "antcache.cli": ROOT / "cli"}
"""Folders by import name, as `setup.py` has them."""


class FolderBeside:
    """Finds the packages of `BESIDE`, as Python's own finders find others."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a package of `BESIDE` is; None of any other."""
        if fullname not in BESIDE:
            return None
        return spec_from_file_location(fullname, BESIDE[fullname] / "__init__.py")


def find_folders_beside() -> None:
    """Let the packages of a clone be found, before any that are installed."""
    installed = Path(__file__).with_name("kernels").exists()
    if not installed and BESIDE["antcache.kernels"].is_dir():
        sys.meta_path.insert(0, FolderBeside)
