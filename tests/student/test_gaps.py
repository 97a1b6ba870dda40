"""Gaps and anchors that are drawn anew for every segment and epoch of training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_kitchen import assert_equals_solo, assert_same_run, stopped_in_step

from antcache.annotations import protocol_for
from antcache.cli.main import cli
from antcache.errors import BadConfig, MissingFeature
from antcache.store import SoftTargets, Store
from antcache.student.config import StudentConfig
from antcache.student.runs.predicting import TrainedStudent
from antcache.student.runs.train import train
from antcache.student.sweeps.plan import Sweep
from antcache.student.sweeps.run import sweep
from antcache.student.training.held_out import HeldOut
from antcache.student.training.loop import Trainer
from antcache.student.training.training_data import TrainingData, load_training_data

MakeStore = Callable[..., Store]
GAPS, ANCHORS = (0.5, 1.5, 4.0), (0.0, 1.0)


def load(store: Store, **settings: Any) -> TrainingData:
    return load_training_data(store, StudentConfig.of(**settings), torch.device("cpu"))


def orders(trainer: Trainer, epochs: range) -> list[torch.Tensor]:
    """The windows of some epochs, as `train_epoch` takes them."""
    found = []
    for epoch in epochs:
        with trainer._seeded(epoch):
            found.append(trainer.order())
    return found


def test_an_epoch_has_one_window_of_each_segment(
    make_store: MakeStore, small: StudentConfig
) -> None:
    """Over epochs all that it has; the seed decides, and each epoch has draws of its own."""
    config = small.replace(gaps=GAPS, anchors=ANCHORS)
    data = load(make_store(), **config.values)
    windows, choices = data.train, data.train.choices
    assert len(windows) > len(choices) == 48  # of the first ones too: from their ends
    trainer = Trainer(config, windows, data.shape)
    assert trainer.steps_per_epoch == 6
    uid, drawn = windows.labels.uid, orders(trainer, range(1, 61))
    for order in drawn:
        assert sorted(uid[order.numpy()]) == sorted(set(uid))
    assert set(torch.cat(drawn).tolist()) == set(range(len(windows)))
    assert not torch.equal(drawn[0].sort().values, drawn[1].sort().values)
    again = orders(Trainer(config, windows, data.shape), range(1, 61))
    other = orders(Trainer(config.replace(seed=1), windows, data.shape), range(1, 61))
    assert all(map(torch.equal, drawn, again))
    assert not any(map(torch.equal, drawn, other))


def test_scored_is_by_the_windows_own(make_store: MakeStore) -> None:
    store = make_store()
    data, plain = load(store, gaps=GAPS), load(store)
    assert data.protocol == protocol_for("tiny")
    assert data.validation.labels.uid.tolist() == plain.validation.labels.uid.tolist()
    every = range(len(plain.validation))
    ours, theirs = (d.validation.features.take(every) for d in (data, plain))
    assert torch.equal(ours, theirs)
    assert data.counts["train"]["segments"] == 42 < data.counts["train"]["windows"] <= 3 * 42
    assert data.counts["validation"] == plain.counts["validation"]


def test_soft_targets_are_the_segments(make_store: MakeStore) -> None:
    """Kept once, and given to every window of the segment; one that has none has none anywhere."""
    store = make_store()
    whole = store.targets("oracle")
    arrays = {name: array[1:] for name, array in whole.arrays().items()}
    arrays["valid"] = arrays["uid"] != "t2_4"
    store.write_targets("some", SoftTargets(**arrays, attributes=whole.attributes))
    data = load(store, gaps=GAPS, anchors=ANCHORS, targets=("some",), allow_missing_targets=True)
    assert data.counts["targets"] == {"found": 46, "absent": 1, "not_valid": 1}
    windows, targets = data.train, data.train.targets
    assert targets is not None
    assert targets.targets.logits.shape[1] == 46
    has = targets.row >= 0
    lacking = set(windows.labels.uid[~has.numpy()].tolist())
    assert lacking == {"t2_4", whole.uid[0]}
    best = targets.targets.logits[0, targets.row[has]].argmax(dim=1)
    assert torch.equal(best, windows.tensors.action[has])


@pytest.mark.parametrize("windows", ["pack", "stream"])
def test_a_run_resumes_to_the_same_bits(
    make_store: MakeStore,
    small: StudentConfig,
    tmp_path: Path,
    windows: str,
) -> None:
    """Stopped in the middle of epoch 2; whether packed or lazy does not matter either."""
    store = make_store()
    config = small.replace(gaps=GAPS, anchors=ANCHORS, targets=("oracle",), windows=windows)
    with stopped_in_step(8):
        train(store, tmp_path / "run", config)
    resumed = train(store, tmp_path / "run", config, resume=True)
    assert resumed.resumed_epoch == 1
    assert_same_run(resumed, train(store, None, config.replace(windows="pack")))
    account = json.loads((tmp_path / "run" / "config.json").read_text())
    assert account["student"]["data"]["gaps"] == list(GAPS)
    found = TrainedStudent(store, tmp_path / "run").predict(
        store.labels("validation"), split="validation"
    )
    np.testing.assert_allclose(found.scores, resumed.predictions.scores, atol=1e-5)


def test_members_of_a_sweep_draw_what_they_draw_alone(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path
) -> None:
    store = make_store()
    base = small.replace(gaps=GAPS, anchors=ANCHORS, epochs=2)
    oracle = base.replace(targets=("oracle",))
    plan = Sweep(settings={"plain": base, "distilled": oracle}, seeds=(3, 5), at_once=4)
    _, failed = sweep(store, tmp_path / "runs", plan)
    assert not failed
    assert_equals_solo(store, tmp_path / "runs", plan)


@pytest.mark.parametrize("gaps", [(0.5, 1.0), (0.5, 4.0)])
def test_videos_held_out_are_scored_by_the_windows_own(
    make_store: MakeStore,
    small: StudentConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gaps: tuple[float, ...],
) -> None:
    """Whether it is among those drawn or not; none of their windows is trained on."""
    seen: set[str] = set()
    step = Trainer._step

    def watch(self: Trainer, rows: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.update(self.windows.labels.uid[rows.numpy()].tolist())
        return step(self, rows, *rest)

    monkeypatch.setattr(Trainer, "_step", watch)
    store, run = make_store(), tmp_path / "run"
    result = train(store, run, small.replace(gaps=gaps, held_out=0.3))
    held = result.held_out
    assert held is not None
    labels = store.labels("train")
    own = labels[np.flatnonzero(np.isin(labels.uid, held.uid))]
    found = TrainedStudent(store, run).predict(own, split="train")
    assert found.uid.tolist() == held.uid.tolist()
    np.testing.assert_allclose(found.scores, held.scores, atol=1e-5)
    videos = set(own.video.tolist())
    assert len(held) == 7 * len(videos)  # the first of a video comes too early
    assert not {uid for uid in seen if uid.split("_")[0] in videos}


def test_one_split_may_be_trained_on_and_scored(
    make_store: MakeStore, small: StudentConfig
) -> None:
    store = make_store()
    config = small.replace(validation_split="train", epochs=1)
    plain, drawn = train(store, None, config), train(store, None, config.replace(gaps=GAPS))
    assert list(plain.counts) == ["train"]
    assert list(drawn.counts) == ["train", "train (scored)"]
    assert drawn.counts["train (scored)"] == plain.counts["train"]
    assert drawn.predictions.uid.tolist() == plain.predictions.uid.tolist()
    assert drawn.predictions.split == "train"


def test_missing_windows_are_an_error_unless_allowed(
    make_store: MakeStore, small: StudentConfig
) -> None:
    store = make_store()
    rows = store.features("rgb", "t2").read()[: 4 * 19]
    store.remove("features/rgb/t2")
    store.write_features("rgb", "t2", rows)
    with pytest.raises(MissingFeature, match=r"gap 0.5 s, anchor start: 1 of 48 segments"):
        load(store, gaps=(0.5, 4.0))
    data = load(store, gaps=(0.5, 4.0), allow_missing=True)
    choices, uid = data.train.choices, data.train.labels.uid
    last = uid[choices.first.numpy()] == "t2_7"
    assert choices.count[torch.from_numpy(last)].tolist() == [1]
    result = train(store, None, small.replace(gaps=(0.5, 4.0), allow_missing=True, epochs=1))
    assert result.dropped["train"] == {"too_early": tuple(f"t{v}_0" for v in range(6))}


def test_settings_that_can_not_be(make_store: MakeStore) -> None:
    for settings, words in (
        ({"gaps": (0.5, 0.5)}, "impossible gaps: expected different names, found 0.5,0.5"),
        ({"anchors": (0.0, 0)}, "impossible anchors"),
        ({"gaps": (-1.0,)}, r"impossible gaps\[0\]"),
        ({"anchors": (1.5,)}, r"impossible anchors\[0\]"),
    ):
        with pytest.raises(BadConfig, match=words):
            StudentConfig.of(**settings)
    with pytest.raises(BadConfig, match=r"parity .avt. .*before the start"):
        load(make_store(), parity="avt", anchors=(0.5,))


def test_on_the_command_line(make_store: MakeStore, tmp_path: Path) -> None:
    options = "--epochs 1 --layers 1 --heads 2 --width 16 --batch-size 16 --device cpu --json"
    options += " --gaps 0.5,1.5 --anchors start,0.75 --anchors end"
    run = ["student", "train", str(make_store().path), "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, [*run, *options.split()])
    assert result.exit_code == 0, result.output
    config = StudentConfig.from_dict(json.loads(result.stdout)["config"])
    assert config.data.gaps == (0.5, 1.5)
    assert config.data.anchors == (0.0, 0.75, 1.0)


def test_held_out_segments_are_scored_where_they_have_a_window(make_store: MakeStore) -> None:
    labels = make_store().labels("train")
    held = HeldOut(
        rows=torch.tensor([1, 4, 5]), segments=labels[np.array([1, 4, 5])], videos=("t0",)
    )
    scored = held.scored(torch.tensor([0, 7, 2, 3, -1, 9]))
    assert scored.rows.tolist() == [7, 9]
    assert scored.segments.uid.tolist() == labels.uid[[1, 5]].tolist()
    with pytest.raises(BadConfig, match="held out has a window of the gap and anchor"):
        held.scored(torch.full((6,), -1))
