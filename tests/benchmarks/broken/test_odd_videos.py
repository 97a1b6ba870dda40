"""Odd videos in small: some cases are answered right, and a wrong answer is noticed."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import odd_videos


def test_other_pictures_are_noticed(forked: ModuleType, tmp_path: Path) -> None:
    """Pictures at other times, and pictures of another shape."""
    films = importlib.import_module("odd_films")
    (case,) = (case for case in odd_videos.CASES if case.name == "pixels twice as wide as high")
    for number, options in enumerate(
        ({"times": films.steady(50, 20)}, {"times": films.steady(), "size": (112, 56)})
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (command,) = case.make(folder)
        films.write(folder / "videos/v.mp4", **options)
        outcome = forked.run(command, folder=folder, timeout_s=60)
        assert "rows of" in case.wrong(folder, [outcome])
