"""The moving average of the weights, by hand and in a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from antcache.errors import BadCheckpoint
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.checkpoint import AVERAGE, WEIGHTS, latest_checkpoint, load_weights
from antcache.student.runs.train import train
from antcache.student.training.averaging import Average

MakeStore = Callable[..., Store]


def test_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    average = Average(model, 0.5)
    expected, steps = 1.0, [3.0, 5.0, 9.0, 2.0, 7.0, 1.0, 4.0, 8.0, 6.0, 5.0]
    for step, value in enumerate(steps, start=1):
        nn.init.constant_(model.weight, value)
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.weights["weight"].item() == pytest.approx(expected)
    with pytest.raises(BadCheckpoint, match="another model"):
        average.load({"weight": torch.ones(2, 1)})


def test_the_average_is_what_is_scored_and_kept(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store, config = make_store(), small.replace(ema=0.99)
    result = train(store, tmp_path / "run", config)
    checkpoint = latest_checkpoint(tmp_path / "run" / "checkpoint")
    assert checkpoint is not None
    average = load_weights(checkpoint, AVERAGE, result.model)
    last = load_weights(checkpoint, WEIGHTS, result.model)
    for name, value in result.model.named_parameters():
        assert torch.equal(value, average[name])
    assert not torch.equal(average["head.classifier.weight"], last["head.classifier.weight"])
    plain = train(store, None, small)
    for name, value in plain.model.named_parameters():
        assert torch.equal(value, last[name])  # the average changes nothing of the training
    assert not np.array_equal(plain.predictions.scores, result.predictions.scores)
    assert result.metrics == result.history[-1]["validation"]
