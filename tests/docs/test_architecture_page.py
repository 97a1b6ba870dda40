"""The page on the architecture: its picture is up to date, and what it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_the_picture_is_drawn_from_the_imports(repo: Path) -> None:
    command = [sys.executable, repo / "docs/architecture.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_file_and_room_is_there(repo: Path) -> None:
    """A name without a folder belongs to the one that was named last, or one above it."""
    text = (repo / "docs/architecture.md").read_text("utf-8")
    names = [n for n in re.findall(r"`([\w./]+)`", text) if n.endswith((".py", "/")) and n != "/"]
    folder, missing, found = repo, [], 0
    roots = ("antcache/", "kernels/", "cli/", "tests/", "benchmarks/", "docs/")
    for name in names:
        near = [folder, *folder.parents, repo / "antcache"]
        places = [repo / name] if name.startswith(roots) else [at / name for at in near]
        place = next((p for p in places if p.exists()), None)
        if place is None:
            missing.append(name)
            continue
        found += 1
        if name.startswith(roots) or name.endswith("/"):
            folder = place if place.is_dir() else place.parent
    assert not missing
    assert found > 40


def test_every_room_has_a_paragraph(repo: Path) -> None:
    text = (repo / "docs/architecture.md").read_text("utf-8")
    rooms = {p.parent.name for p in (repo / "antcache").glob("*/__init__.py")}
    for room in (*rooms, "kernels", "cli"):
        assert f"**`{room}/`**" in text, room
