"""`benchmarks/salads.py` in small, and what it promises of the future: it is not looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from small_salads import FIRST_S, SPLITS, VIDEOS, write_salads

from antcache.annotations import Segments
from antcache.store import Store


@pytest.fixture
def data(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("salads_data")


@pytest.fixture
def rivals(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("salads_rivals")


@pytest.fixture
def asked(benchmark: Callable[[str], ModuleType]) -> Callable[[Store], Segments]:
    runs: Any = benchmark("salads_runs")
    found: Callable[[Store], Segments] = runs.asked
    return found


@pytest.fixture
def small(data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data, of which the modules are told."""
    write_salads(tmp_path / "data" / "50salads")
    monkeypatch.setattr(data, "FOLDER", tmp_path / "data" / "50salads")
    return tmp_path


@pytest.mark.slow
def test_every_figure_on_record_is_measured(run_benchmark, recorded, tmp_path) -> None:
    write_salads(tmp_path / "data" / "50salads")
    found = run_benchmark(
        "salads",
        *("--seeds", "2", "--epochs", "1", "--work", str(tmp_path / "work")),
        ANTCACHE_DATA=str(tmp_path / "data"),
    )
    assert set(found) == recorded("salads")
    assert found["segments"] == SPLITS * VIDEOS * 7  # before the first action nothing is seen


def test_columns_are_those_of_the_actions(small, data, rivals) -> None:
    store = data.make_store(small / "work", (1,))
    train = store.labels("train")
    assert set(train.videos) == {v for v in train.video if not v.endswith("-1")}
    for video, places in rivals.by_video(train):
        action = rivals.under_way(store, video, train[places])
        right = rivals.scores_of(store, video).argmax(axis=1) == action
        assert right.mean() > 0.8
        assert (action >= 0).all()


def test_memory_is_of_the_rows_so_far(data) -> None:
    scores = np.random.default_rng(0).normal(size=(40, 18))
    whole = data.memory_of(scores)
    for row in (0, 7, 30):
        np.testing.assert_array_equal(data.memory_of(scores[: row + 1]), whole[: row + 1])


def test_nothing_is_said_by_what_comes_later(small, data, rivals, asked) -> None:
    """Scores after the moment of a segment may be anything: what is said of it stays the same."""
    store = data.make_store(small / "work", (1,))
    segments = asked(store)
    said = rivals.without_students(store, segments)
    assert all(np.isfinite(scores).all() for scores in said.values())

    recorded = data.recorded()
    video, places = next(rivals.by_video(segments))
    row = rivals.rows_of(store, video, segments[places])[3]
    moment = segments.start_s[places][3] - 1
    assert FIRST_S + row <= moment < FIRST_S + row + 1
    name = f"{video}/scores"
    recorded[name][row + 1 :] = np.random.default_rng(1).normal(
        size=recorded[name][row + 1 :].shape
    )
    np.savez(data.FOLDER / "frame_scores_mid.npz", **recorded)
    other = data.make_store(small / "changed", (1,))
    changed = rivals.without_students(other, segments)
    for name, scores in said.items():
        np.testing.assert_array_equal(changed[name][places[:4]], scores[places[:4]], err_msg=name)
        if name != "teacher, history true" and "wrong" not in name:
            assert (changed[name][places[4:]] != scores[places[4:]]).any(), name


def test_runs_are_the_history(rivals) -> None:
    likely = np.eye(4)[[0, 0, 0, 1, 0, 0, 2, 2, 2, 3]]
    rows = np.array([2, 5, 8, 9])
    expected = [[-1, -1, 0], [-1, -1, 0], [-1, 0, 2], [0, 2, 3]]
    assert rivals.run_histories(likely, rows, 3).tolist() == expected


def test_the_filter_follows_the_sequence(small, data, rivals) -> None:
    """What was cut is placed: of rows of a cut, the next is known."""
    store = data.make_store(small / "work", (1,))
    hmm = rivals.Hmm(store)
    np.testing.assert_allclose(hmm.step.sum(axis=1), 1.0)
    sure = np.full((5, 17), -20.0)
    sure[:, 0] = 0.0
    said = hmm.expect(hmm.filtered(sure), np.array([4]))
    assert said.argmax() == 1
