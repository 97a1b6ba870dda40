from __future__ import annotations

from pathlib import Path

import pytest

from antcache.errors import DamagedStore, UnreadableVideo
from antcache.store.local.ledger import Ledger
from antcache.store.location import beside


def test_entries_come_and_go(tmp_path):
    ledger = Ledger(tmp_path / "s.zarr")
    assert ledger.read() == []
    ledger.succeeded("rgb", "a")
    assert not ledger.path.exists()

    ledger.failed("rgb", "a", Path("a.mp4"), UnreadableVideo("broken", where="a.mp4"))
    ledger.failed("rgb", "b", Path("b.mp4"), UnreadableVideo("broken"))
    ledger.failed("flow", "a", Path("a.mp4"), UnreadableVideo("broken"))
    ledger.failed("rgb", "a", Path("a.mp4"), UnreadableVideo("still broken"))
    entries = ledger.read()
    assert [(e.stream, e.video, e.error) for e in entries] == [
        ("rgb", "b", "broken"),
        ("flow", "a", "broken"),
        ("rgb", "a", "still broken"),
    ]
    assert ledger.path == tmp_path / "s.zarr.failures.jsonl"
    assert len(ledger.path.read_text().splitlines()) == 3

    for stream, video in [("rgb", "a"), ("rgb", "b"), ("flow", "a")]:
        ledger.succeeded(stream, video)
    assert not ledger.path.exists()
    assert list(tmp_path.iterdir()) == []


def test_other_content(tmp_path):
    ledger = Ledger(tmp_path / "s.zarr")
    ledger.path.write_text("no ledger\n")
    with pytest.raises(DamagedStore, match="not a ledger of failures"):
        ledger.read()


def test_store_given_as_a_dot(tmp_path, monkeypatch):
    (tmp_path / "s.zarr").mkdir()
    monkeypatch.chdir(tmp_path / "s.zarr")
    assert beside(Path(), ".log") == tmp_path / "s.zarr.log"
