"""Every hostile file against a command that reads it: one line, and nothing else happens.

Of several commands, which read it in the same way, one: the next case runs the next one.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from types import ModuleType

import hostile_files
import hostile_videos
import pytest
from cases import InputCase

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
SECONDS = 60.0
"""The benchmark's own bound is 10 s; a test shares its machine, and what hangs has no end."""
BYTES = 2 << 30


def snapshot(folder: Path) -> dict[str, str]:
    """Kind and content of everything in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""
        found[str(path.relative_to(folder))] = f"{stat.S_IFMT(mode)} {content}"
    return found


CASES = hostile_files.cases()


def test_there_are_enough() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: InputCase, tmp_path: Path, forked: ModuleType) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    (tmp_path / "outside").write_text("as it was")
    commands = case.make(folder)
    assert commands
    secret = hostile_videos.SECRET
    victim = snapshot(folder / "victim")
    before = {path.name for path in folder.iterdir()}
    arguments = commands[CASES.index(case) % len(commands)]
    outcome = forked.run(arguments, folder=folder, timeout_s=SECONDS)
    said = f"{arguments}: {outcome}"
    assert not outcome.hung, said
    assert not outcome.traceback, said
    assert outcome.code in (0, 1, 2), said
    assert outcome.peak_bytes < BYTES, said
    errors = [line for line in outcome.complaints if not line.startswith("failed: ")]
    assert len(errors) <= 1, said
    assert not any(ord(c) < 32 and c != "\n" for c in outcome.stdout + outcome.stderr), said
    assert max(map(len, outcome.stderr.splitlines()), default=0) < 6000, said
    assert secret not in outcome.stdout + outcome.stderr, said
    assert snapshot(folder / "victim") == victim, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "outside"], said
    assert (tmp_path / "outside").read_text() == "as it was", said
    for path in folder.iterdir():
        if path.name not in before:
            files = [path, *path.rglob("*")]
            assert not any(secret.encode() in f.read_bytes() for f in files if f.is_file())
