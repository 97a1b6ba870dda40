"""Odd lmdbs in small: some cases are answered right, and a wrong answer is noticed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import odd_lmdbs


def test_other_rows_are_noticed(forked: ModuleType, tmp_path: Path) -> None:
    case = odd_lmdbs.CASES[0]
    (command,) = case.make(tmp_path)
    outcome = forked.run([*command, "--fps-of-keys", "60"], folder=tmp_path, timeout_s=60)
    assert "other times" in case.wrong(tmp_path, [outcome])
