"""`benchmarks/long_term.py`, in small."""

from __future__ import annotations

from pathlib import Path

from small_salads import SPLITS, write_salads


def write_kitchen(folder: Path, splits: int) -> None:
    """Small videos, in as many splits as are published."""
    write_salads(folder)
    (folder / "splits").mkdir()
    lines = (folder / "segments.csv").read_text("utf-8").splitlines()[1:]
    videos = sorted({line.split(",")[0] for line in lines})
    for number in range(1, splits + 1):  # of fewer than that, by their names
        held = [video for video in videos if video.endswith(f"-{number % SPLITS + 1}")]
        for part, own in (("train", set(videos) - {*held}), ("test", held)):
            text = "".join(f"{video}.txt\n" for video in sorted(own))
            (folder / f"splits/{part}.split{number}.bundle").write_text(text)


def test_every_figure_on_record_is_measured(run_benchmark, recorded, tmp_path) -> None:
    write_kitchen(tmp_path / "data/50salads", 5)
    write_kitchen(tmp_path / "data/breakfast", 4)
    words = ("--seeds", "1", "--epochs", "1")
    found = run_benchmark("long_term", *words, ANTCACHE_DATA=str(tmp_path / "data"))
    assert set(found) == recorded("long_term")
    for what, value in found.items():
        assert 0 < value < (1 if "ED@" in what else 100), what
