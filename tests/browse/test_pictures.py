"""Pictures are those of their times, kept within a bound; what can't be decoded says why."""

from __future__ import annotations

import base64
import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from antcache.browse import Shelf
from antcache.browse.pictures import Pictures
from antcache.errors import NotFound
from antcache.store import Store


def shown_at(second: float) -> Any:
    """How bright the film is: two frames a second, one of 16 steps brighter than the last."""
    return pytest.approx(16 * (min(239, int(2 * second)) % 16), abs=5)


@pytest.fixture(scope="module")
def shelf(browsed: Path, films: Path) -> Shelf:
    return Shelf(Store.open(browsed / "kitchen.zarr"), videos=films)


def brightness(url: str) -> float:
    """How bright a picture is."""
    kind, _, data = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.size == (180, 120)
    return float(np.asarray(picture.convert("L")).mean())


def read(shelf: Shelf, name: str) -> Any:
    return json.loads(shelf.document(name))


def test_a_strip_shows_the_last_frame_before_each_time(shelf: Shelf) -> None:
    found = read(shelf, "strip-8")
    assert len(found["pictures"]) == len(found["seconds"]) == 24
    for second, picture in zip(found["seconds"], found["pictures"], strict=True):
        assert brightness(picture) == shown_at(second)


def test_a_segment_shows_its_window_and_its_start(shelf: Shelf) -> None:
    video, found = read(shelf, "video-8"), read(shelf, "seen-8-7")
    *seen, start = found["seconds"]
    assert start == video["start"][7]
    assert seen[-1] == pytest.approx(start - 1, abs=0.011)
    assert seen[0] == pytest.approx(start - 1 - 4.5, abs=0.011)
    assert brightness(found["pictures"][-1]) == shown_at(start)
    with pytest.raises(NotFound, match="no such document"):
        shelf.document("seen-8-30")


def test_a_video_is_decoded_once(
    browsed: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from antcache.browse import pictures

    calls, usual = [], pictures._decoded

    def decoded(*given: Any) -> Any:
        calls.append(given)
        return usual(*given)

    monkeypatch.setattr(pictures, "_decoded", decoded)
    shelf = Shelf(Store.open(browsed / "kitchen.zarr"), videos=films)
    names = ["strip-8", *(f"seen-8-{s}" for s in range(6))]
    threads = [threading.Thread(target=shelf.document, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert "pictures" in read(shelf, "seen-8-29")
    assert len(calls) == 1


def test_few_segments_have_pictures_of_their_own(
    browsed: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antcache.browse.shelf.MOST_SEEN", 3)
    shelf = Shelf(Store.open(browsed / "kitchen.zarr"), videos=films)
    assert "pictures" in read(shelf, "seen-8-2")
    assert read(shelf, "seen-8-20")["why"] == "the video has more than 3 segments"
    alone = Shelf(Store.open(browsed / "kitchen.zarr"), videos=films, single=False)
    assert "pictures" in read(alone, "strip-8")


def test_what_is_kept_has_a_bound(films: Path) -> None:
    pictures = Pictures(films, kept_bytes=20_000)
    for first in range(10):
        assert len(pictures.of("P02_01", [first + 0.5, first + 1.0])) == 2
        assert 0 < pictures.kept_bytes <= 20_000
    assert len(pictures.of("P02_01", np.arange(60.0).tolist())) == 60
    assert pictures.kept_bytes == 0  # more than may be kept, and given all the same


def test_what_can_not_be_decoded_says_why(
    shelf: Shelf, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "P02_02.mp4" in read(shelf, "strip-9")["why"]
    assert read(shelf, "seen-9-0")["why"] == read(shelf, "strip-9")["why"]
    assert read(shelf, "strip-0")["why"] == f"{films.name} has no video of this name"

    def fails(*_: Any) -> Any:
        raise RuntimeError("a decoder's own mistake")

    monkeypatch.setattr("antcache.browse.pictures._decoded", fails)
    assert Pictures(films).of("P02_01", [1.0]) == "can't be decoded (RuntimeError)"


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no videos here"):
        Pictures(tmp_path)
    with pytest.raises(NotFound, match="no such file or folder"):
        Pictures(tmp_path / "none")


def test_what_nobody_waits_for_makes_way(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a video is decoded, and before its turn has come; others get theirs."""
    from antcache.browse import pictures

    monkeypatch.setattr(pictures, "LOOK_S", 0.01)
    made, looked = Pictures(films), []

    def gone() -> bool:
        looked.append(made)
        return len(looked) > 3

    assert made.of("P02_01", [1.0, 100.0], gone) == "nobody waits for them any more"
    assert len(looked) == 4
    assert made.kept_bytes == 0
    for _ in range(pictures.AT_ONCE):
        made._at_once.acquire()
    looked.clear()
    assert made.of("P02_01", [1.0], gone) == "nobody waits for them any more"
    assert len(looked) == 4
    for _ in range(pictures.AT_ONCE):
        made._at_once.release()
    found = made.of("P02_01", [1.0])
    assert isinstance(found, dict)
    assert brightness(found[1.0]) == shown_at(1.0)
