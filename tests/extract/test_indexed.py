"""A pass into a bucket whose stream has an index: what is missing is done, whatever it says."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from antcache.extract import ExtractConfig, extract, make_plan
from antcache.store import Store
from antcache.store.integrity import indexes as indexes_module

STREAM = "features/rgb"


class Means:
    """A backbone that is there at once."""

    name, dim, num_frames, fingerprint = "means", 8, 1, "indexed-1"

    def preprocess(self, pictures: Any) -> Any:
        return pictures.float().permute(0, 3, 1, 2)

    def __call__(self, pixels: Any) -> Any:
        return pixels.mean((1, 2, 3, 4))[:, None].expand(-1, 8)


@pytest.fixture
def store(s3_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)  # where the list of failures lies
    return Store.create(f"s3://kitchen/{uuid.uuid4().hex}", storage_options=s3_options)


def lose(store: Store, video: str) -> None:
    """Delete a video as other tools do."""
    files = store.backend.files
    for name in files.sizes(f"{STREAM}/{video}"):
        files.delete(f"{STREAM}/{video}/{name}")


def test_a_pass_does_what_is_missing_whatever_an_index_says(
    store: Store, tmp_path: Path, video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = {name: tmp_path / f"{name}.mp4" for name in "abc"}
    for path in videos.values():
        video.write(path, video.steady(10), codec="mpeg4")
    assert extract(videos, store, Means()).written == ("a", "b", "c")
    assert not store.backend.has_index(STREAM)  # for so few it would be of no use
    monkeypatch.setattr(indexes_module, "WORTH", 3)
    assert extract(videos, store, Means()).written == ()
    assert store.backend.has_index(STREAM)
    lose(store, "b")
    assert make_plan(videos, store, Means(), ExtractConfig()).done == ("a", "b", "c")
    assert extract(videos, store, Means()).written == ("b",)
    assert store.backend.has_index(STREAM)
    assert not store.backend.wrong_index(STREAM)
    lose(store, "c")
    assert store.backend.wrong_index(STREAM) == "1 videos that are not there"
    store.backend.remove_leftovers()  # as at the end of each pass
    assert not store.backend.has_index(STREAM)
    assert store.videos("rgb") == ["a", "b"]


def test_a_pass_does_not_fail_for_an_index(
    store: Store, tmp_path: Path, video: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    video.write(tmp_path / "a.mp4", video.steady(10), codec="mpeg4")
    monkeypatch.setattr(indexes_module, "WORTH", 1)
    with store.claim_features("rgb", "elsewhere"), caplog.at_level("INFO"):
        assert extract({"a": tmp_path / "a.mp4"}, store, Means()).written == ("a",)
    assert "no index of rgb is written: " in caplog.text
    assert store.videos("rgb") == ["a"]
