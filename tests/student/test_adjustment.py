"""Logit adjustment: what is predicted, that it is kept with the run, and that nothing learns it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file

from antcache.annotations import Segments
from antcache.errors import BadConfig
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.checkpoint import WEIGHTS, latest_checkpoint
from antcache.student.runs.predicting import TrainedStudent
from antcache.student.runs.train import RunResult, train
from antcache.student.sweeps.plan import Sweep
from antcache.student.sweeps.run import sweep

MakeStore = Callable[..., Store]


def has_window(result: RunResult, labels: Segments) -> NDArray[np.bool_]:
    dropped = [uid for uids in result.dropped["train"].values() for uid in uids]
    assert dropped
    return ~np.isin(labels.uid, dropped)


def test_predictions_by_hand(make_store: MakeStore, small: StudentConfig) -> None:
    """Less a share of the log frequency, every class counted once more than it is there."""
    store = make_store()
    plain = train(store, None, small)
    adjusted = train(store, None, small.replace(logit_adjustment=0.5))
    for name, value in plain.model.named_parameters():
        assert value.equal(adjusted.model.get_parameter(name)), name
    labels = store.labels("train")
    count = (
        np.bincount(labels.action[has_window(plain, labels)], minlength=len(store.taxonomy.actions))
        + 1
    )
    expected = plain.predictions.scores - 0.5 * np.log(count / count.sum())
    np.testing.assert_allclose(adjusted.predictions.scores, expected, atol=1e-5)
    assert adjusted.metrics == adjusted.history[-1]["validation"]
    assert [r["loss"] for r in adjusted.history] == [r["loss"] for r in plain.history]


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"held_out": 0.3}])
def test_a_trained_student_keeps_it(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, changes: dict[str, float]
) -> None:
    store = make_store()
    config = small.replace(logit_adjustment=0.7, **changes)
    expected = train(store, tmp_path / "run", config)
    found = TrainedStudent(store, tmp_path / "run").predict(
        store.labels("validation"), split="validation"
    )
    np.testing.assert_allclose(found.scores, expected.predictions.scores, atol=1e-5)
    resumed = train(store, tmp_path / "run", config, resume=True)
    np.testing.assert_array_equal(resumed.predictions.scores, expected.predictions.scores)


def test_frequencies_are_those_of_the_videos_trained_on(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, config = make_store(), small.replace(logit_adjustment=1.0, held_out=0.4, epochs=1)
    result = train(store, tmp_path / "run", config)
    assert result.held_out is not None
    labels = store.labels("train")
    rows = has_window(result, labels) & ~np.isin(labels.uid, result.held_out.uid)
    count = np.bincount(labels.action[rows], minlength=len(store.taxonomy.actions))
    checkpoint = latest_checkpoint(tmp_path / "run" / "checkpoint")
    assert checkpoint is not None
    kept = load_file(checkpoint / WEIGHTS)["adjustment"].numpy()
    np.testing.assert_allclose(kept, np.log((count + 1) / (count + 1).sum()), rtol=1e-6)


def test_members_of_a_sweep_differ_in_it_alone(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store = make_store()
    adjusted = small.replace(logit_adjustment=0.8)
    plan = Sweep(settings={"plain": small, "adjusted": adjusted}, seeds=(1,), at_once=2)
    _, failed = sweep(store, tmp_path / "runs", plan)
    assert not failed
    for name, config in plan.members():
        solo = train(store, None, config)
        found = TrainedStudent(store, tmp_path / "runs" / name).predict(
            store.labels("validation"), split="validation"
        )
        np.testing.assert_allclose(found.scores, solo.predictions.scores, rtol=1e-4, atol=1e-5)


def test_a_negative_strength_is_refused() -> None:
    with pytest.raises(BadConfig, match="impossible logit_adjustment"):
        StudentConfig.of(logit_adjustment=-0.1)
