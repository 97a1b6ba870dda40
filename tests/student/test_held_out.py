"""Videos held out of training: never trained on, and they alone select."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from antcache.errors import BadConfig
from antcache.evaluation import Predictions, score
from antcache.evaluation.predictions import HELD_OUT
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.checkpoint import load_reported
from antcache.student.runs.train import train
from antcache.student.training.held_out import best_epoch, hold_out
from antcache.student.training.loop import Trainer
from antcache.student.training.optimization_config import SelectionConfig

MakeStore = Callable[..., Store]


def test_whole_videos_are_held_out(make_store: MakeStore) -> None:
    store = make_store()
    labels, taxonomy = store.labels("train"), store.taxonomy
    chosen = []
    for share in (0.2, 0.5):
        config = SelectionConfig(held_out=share)
        rows, held = hold_out(labels.uid[::-1], labels, taxonomy, config)
        assert held is not None
        videos = labels.video[::-1]
        assert set(videos[held.rows.numpy()]) == set(held.videos)
        assert not set(videos[rows.numpy()]) & set(held.videos)
        assert sorted([*rows.tolist(), *held.rows.tolist()]) == list(range(len(labels)))
        assert held.segments.uid.tolist() == labels.uid[::-1][held.rows.numpy()].tolist()
        chosen.append(set(held.videos))
    assert chosen[0] < chosen[1]
    assert [len(videos) for videos in chosen] == [1, 3]
    rows, nothing = hold_out(labels.uid, labels, taxonomy, SelectionConfig())
    assert nothing is None
    assert len(rows) == len(labels)


CHOSEN = """
import json, sys
import numpy as np
from antcache.annotations import Segments, Taxonomy
from antcache.student.config import StudentConfig
from antcache.student.training.optimization_config import SelectionConfig
from antcache.student.training.held_out import hold_out
names, zeros = [f"v{i}" for i in range(12)], np.zeros(12, int)
segments = Segments.of(
    uid=names, video=names, start_s=zeros, stop_s=zeros + 1, verb=zeros, noun=zeros, action=zeros
)
taxonomy = Taxonomy(dataset="d", verbs=("v",), nouns=("n",), actions=("a",),
                    action_verbs=(0,), action_nouns=(0,))
config = SelectionConfig(held_out=0.25)
print(json.dumps(hold_out(segments.uid, segments, taxonomy, config)[1].videos))
"""


def test_the_hash_seed_chooses_nothing() -> None:
    """The same ones in every process, and by names alone: three of twelve, by their SHA-256."""
    by_name = sorted((f"v{i}" for i in range(12)), key=lambda v: sha256(v.encode()).hexdigest())
    for seed in ("1", "2"):
        said = subprocess.run(
            [sys.executable, "-c", CHOSEN],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        assert json.loads(said.stdout) == sorted(by_name[:3])


def test_impossible_shares_and_metrics_are_refused(make_store: MakeStore) -> None:
    store = make_store()
    labels, taxonomy = store.labels("train"), store.taxonomy
    with pytest.raises(BadConfig, match="no training video is left"):
        hold_out(labels.uid, labels, taxonomy, SelectionConfig(held_out=0.99))
    with pytest.raises(BadConfig, match="unknown metric of the videos held out"):
        hold_out(labels.uid, labels, taxonomy, SelectionConfig(held_out=0.2, metric="action/top2"))
    with pytest.raises(BadConfig, match="patience has no effect"):
        StudentConfig.of(patience=2)
    with pytest.raises(BadConfig, match="impossible held_out"):
        StudentConfig.of(held_out=1.0)


def test_the_first_of_the_best_epochs() -> None:
    history = [{"epoch": e, "held_out": {"m": v}} for e, v in enumerate((1.0, 3.0, 3.0), 1)]
    assert best_epoch(history, "m") == 2
    assert best_epoch([], "m") == 0


def test_held_out_windows_are_never_trained_on(
    make_store: MakeStore, small: StudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    step = Trainer._step

    def watch(self: Trainer, rows: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.update(self.windows.labels.uid[rows.numpy()].tolist())
        return step(self, rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_step", watch)
    result = train(make_store(), None, small.replace(held_out=0.3))
    assert result.held_out is not None
    assert not seen & set(result.held_out.uid.tolist())
    assert len(seen) + len(result.held_out) == 42


def test_stops_early_and_keeps_the_best(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate that falls to nothing: the held-out figure stands still, and patience runs out."""
    store = make_store(num_videos=10)
    config = small.replace(epochs=30, held_out=0.3, patience=2, ema=0.5, evaluate_every=50)
    run = tmp_path / "run"
    result = train(store, run, config)
    values = [record["held_out"][config.selection.metric] for record in result.history]
    assert len(values) < 30
    assert result.epoch == 1 + int(np.argmax(values)) == len(values) - 2
    assert "validation" in result.history[-1]  # the last epoch is scored, whenever it comes
    kept = Predictions.load(run / HELD_OUT)
    assert kept.split == "train"
    labels = store.labels("train")
    place = [labels.uid.tolist().index(uid) for uid in kept.uid.tolist()]
    figures = score(kept.scores, labels[np.array(place)], store.taxonomy)
    assert figures == result.history[result.epoch - 1]["held_out"]
    checkpoint = next((run / "checkpoint").iterdir())
    before = {name: value.clone() for name, value in result.model.named_parameters()}
    torch.nn.init.zeros_(next(result.model.parameters()))
    load_reported(checkpoint, result.model)
    assert all(torch.equal(v, before[n]) for n, v in result.model.named_parameters())
    account = json.loads((run / "config.json").read_text())
    assert set(account["held out"]) == set(labels.video[np.array(place)].tolist())
    again = train(store, run, config, resume=True)
    assert again.resumed_epoch == len(values)
    assert again.metrics == result.metrics
    np.testing.assert_array_equal(again.predictions.scores, result.predictions.scores)
