"""A film with the answers in the picture: the same times, and in each the last answer by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict_kitchen import uneven

from antcache.errors import AlreadyExists, BadConfig, UnreadableVideo
from antcache.extract.videos.film_frames import FilmFile
from antcache.predict import film
from antcache.predict.answers import Anticipation, Likely
from antcache.predict.film import check_film, write_film

GREY = 128


def grey(number: int, height: int, width: int) -> np.ndarray:
    """All pixels alike, so that what is written can be told."""
    return np.full((height, width, 3), GREY, np.uint8)


def answer(time_s: float, probability: float) -> Anticipation:
    top = (
        Likely(action=0, name="take\x1b a pan of a very long name " * 3, probability=probability),
    )
    return Anticipation(time_s=time_s, gap_s=1.0, top=top)


def frames(path: Path) -> list[tuple[float, np.ndarray]]:
    reader = FilmFile(path).frames(max_gap_s=2.0, allow_partial=False)
    return [(float(time), reader.picture(frame)) for time, frame in reader]


def bar(picture: np.ndarray) -> int:
    """How long the bar of the first action is, in pixels."""
    line = picture.shape[0] // film.LINES
    row = picture[-line // 2 - max(2, line // 3) - 1, :, 0].astype(int)
    return int((row[2 * line :] > 70).sum())


@pytest.fixture(params=film.CODECS)
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With either, as it is where the other is not there."""
    monkeypatch.setattr(film, "CODECS", (request.param,))
    return request.param


@pytest.mark.parametrize("name", ["even.mp4", "odd.mkv"])
def test_frames_stand_at_their_times_and_show_the_last_answer(
    video: Any, tmp_path: Path, codec: str, name: str
) -> None:
    times = video.steady(60, 30) if name == "even.mp4" else uneven(2.0, 3)
    how = {"time_base": times[1] / 512, "size": (400, 720)} if name == "even.mp4" else {}
    source = video.write(tmp_path / name, times, picture=grey, **how)
    said = [answer(0.5, 0.2), answer(float(times[len(times) * 2 // 3]), 0.9)]
    done: list[float] = []
    out = tmp_path / "out" / f"film{source.suffix}"
    write_film(out, source, said, progress=lambda _, now, total: done.append(now))
    given, made = frames(source), frames(out)
    precision = 1e-6 if source.suffix == ".mp4" else 1e-3  # Matroska counts milliseconds
    assert [t for t, _ in made] == pytest.approx([t for t, _ in given], abs=precision)
    height, width = made[0][1].shape[:2]
    scale = -(-film.LOWEST // given[0][1].shape[0])
    assert (height, width) == tuple(side * scale for side in given[0][1].shape[:2])
    for time, picture in made:
        untouched = picture[: height // 2].astype(int)
        assert abs(untouched - GREY).max() < 12
        below = picture[-height // 10 :, : width // 2].astype(int)
        if time < 0.5:
            assert abs(below - GREY).max() < 12
        else:
            assert below.min() < 70  # the ground of the text
            assert below.max() > 180  # the text
    early = [bar(picture) for time, picture in made if 0.5 <= time < said[1].time_s - 1e-6]
    late = [bar(picture) for time, picture in made if time >= said[1].time_s - 1e-6]
    assert len(early) > 5
    assert len(late) > 5
    assert max(early) < min(late)
    assert done == sorted(done)


def test_films_of_other_kinds_and_those_that_are_there_are_refused(video: Any, tmp_path: Path):
    source = video.write(tmp_path / "v.mp4", video.steady(10), picture=grey)
    for name in ("a.avi", "a", "a.html"):
        with pytest.raises(BadConfig, match=r"\.mp4 or \.mkv"):
            check_film(tmp_path / name)
    there = tmp_path / "there.mp4"
    there.write_text("mine")
    with pytest.raises(AlreadyExists, match=r"there\.mp4"):
        write_film(there, source, [])
    assert there.read_text() == "mine"
    bad = tmp_path / "bad.mp4"
    bad.write_text("no film")
    with pytest.raises(UnreadableVideo, match=r"bad\.mp4"):
        write_film(tmp_path / "out.mp4", bad, [])
    assert not (tmp_path / "out.mp4").exists()
    write_film(there, source, [answer(0.1, 0.5)], overwrite=True)
    assert len(frames(there)) == 10
