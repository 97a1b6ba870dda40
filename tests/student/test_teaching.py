"""Runs from a store with several teachers, feature alignment, and own verb and noun classifiers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from antcache.errors import BadConfig, MissingTarget
from antcache.kernels import DenseTargets, TopKTargets
from antcache.store import SoftTargets, Store
from antcache.student.config import StudentConfig
from antcache.student.heads.table import HEADS, sizes_of
from antcache.student.runs.train import train
from antcache.student.training.loop import Trainer
from antcache.student.training.training_data import TrainingData, load_training_data
from antcache.windows.teacher_targets import TeacherTargets

MakeStore = Callable[..., Store]
CPU = torch.device("cpu")


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    """Beside the oracle: a teacher that is wrong, joint targets of both, and one with features."""
    made = make_store()
    oracle = made.targets("oracle")
    assert oracle.logits is not None
    rng = np.random.default_rng(3)
    wrong = replace(oracle, logits=np.roll(oracle.logits, 1, axis=1))
    made.write_targets("wrong", wrong)
    about = {"members": ["wrong", "oracle"], "weights": [0.0, 1.0], "temperatures": [1.0, 2.0]}
    joint = replace(oracle, attributes={**oracle.attributes, **about, "mix": "weights"})
    made.write_targets("joint", joint)
    directions = rng.standard_normal((6, 4))
    feature = directions[oracle.logits.argmax(1)].astype(np.float32)
    feature[oracle.uid == "t1_3"] = np.nan
    made.write_targets("featured", replace(oracle, feature=feature))
    return made


def load(store: Store, **settings: Any) -> TrainingData:
    return load_training_data(store, StudentConfig.of(**settings), CPU)


def taught(data: TrainingData) -> TeacherTargets:
    assert data.train.targets is not None
    return data.train.targets


def final_losses(store: Store, config: StudentConfig) -> tuple[Trainer, dict[str, float]]:
    """Train without a run folder, and give the mean losses of the last epoch."""
    data = load_training_data(store, config, CPU)
    trainer = Trainer(config, data.train, data.shape)
    means: dict[str, float] = {}
    for epoch in range(1, config.optimization.epochs + 1):
        means = trainer.train_epoch(epoch)
    return trainer, means


def test_several_teachers_are_read_and_weighed(store: Store) -> None:
    data = load(store, targets=("oracle", "wrong"), target_weights=(1.0, 3.0))
    assert data.shape.num_teachers == 2
    teachers = taught(data)
    assert isinstance(teachers.targets, DenseTargets)
    assert teachers.targets.logits.shape == (2, 42, 6)
    assert teachers.share is not None
    assert teachers.share.tolist() == [1, 3]
    first, second = teachers.targets.logits[:, teachers.row].argmax(-1)
    assert torch.equal(first, data.train.tensors.action)
    assert torch.equal(second, (first + 1) % 6)
    both = load(store, targets=("oracle", "wrong"), top_k=2)
    assert isinstance(taught(both).targets, TopKTargets)
    assert data.fingerprints["soft targets"] != both.fingerprints["taxonomy"]
    assert data.fingerprints["soft targets"].count(",") == 1


def test_a_window_that_one_teacher_lacks_is_masked_and_counted(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = store.targets("wrong")
    valid = wrong.uid != "t1_3"
    store.write_targets("masked", replace(wrong, valid=valid))
    data = load(store, targets=("oracle", "masked"))
    assert data.counts["targets"] == {"found": 41, "absent": 0, "not_valid": 1}
    assert data.train.labels.uid[(taught(data).row < 0).numpy()].tolist() == ["t1_3"]
    arrays = {name: a[valid] for name, a in wrong.arrays().items()}
    store.write_targets("fewer", SoftTargets(**arrays, attributes=wrong.attributes))
    with pytest.raises(MissingTarget, match=r"oracle,fewer: 1 of 42 .*none for t1_3"):
        load(store, targets=("oracle", "fewer"))
    again = load(store, targets=("oracle", "fewer"), allow_missing_targets=True)
    assert again.counts["targets"]["absent"] == 1


def test_the_weights_of_a_stored_mixture(store: Store, small: StudentConfig) -> None:
    """It trusts the oracle alone: training equals training on the oracle at half its logits."""
    config = small.replace(targets=("oracle", "wrong"), target_weights="joint")
    teachers = taught(load_training_data(store, config, CPU))
    assert teachers.share is not None
    assert teachers.share.tolist() == [1, 0]
    oracle = store.targets("oracle")
    assert oracle.logits is not None
    store.write_targets("half", replace(oracle, logits=oracle.logits / 2))
    _, mixed = final_losses(store, config)
    _, alone = final_losses(store, small.replace(targets=("half",)))
    assert mixed["distillation_loss"] == pytest.approx(alone["distillation_loss"], rel=1e-4)
    with pytest.raises(BadConfig, match=r"targets/oracle: .*no ensemble"):
        load(store, targets=("joint", "wrong"), target_weights="oracle")


def test_attention_turns_to_the_teacher_that_agrees(store: Store, small: StudentConfig) -> None:
    """Labels pull the student to the oracle; the nearer teacher gets the weight."""
    config = small.replace(
        targets=("wrong", "oracle"),
        target_weights="attention",
        weight=0.1,
        epochs=12,
        lr=1e-2,
    )
    trainer, means = final_losses(store, config)
    trainer.model.eval()
    data = load_training_data(store, config, CPU)
    _, features = next(data.train.batches(torch.arange(42), 42))
    scores = trainer.model(features.float()).teacher_scores
    assert scores is not None
    share = scores.softmax(1).mean(0)
    assert share[1] > 0.6
    assert means["distillation_loss"] > 0


@pytest.mark.parametrize("align", ["cosine", "mse"])
def test_alignment_is_learned(store: Store, small: StudentConfig, align: str) -> None:
    config = small.replace(targets=("featured",), align=align, epochs=1, lr=1e-2)
    _, first = final_losses(store, config)
    _, last = final_losses(store, config.replace(epochs=8))
    assert 0 < last["align_loss"] < 0.8 * first["align_loss"]


def test_alignment_needs_features_and_says_which_are_missing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MissingTarget, match=r"targets/oracle: .*no feature of their teacher"):
        load(store, targets=("oracle",), align="cosine")
    with caplog.at_level(logging.WARNING):
        data = load(store, targets=("featured",), align="cosine")
    assert "1 of 42 windows with soft targets have no feature of the teacher" in caplog.text
    teachers = taught(data)
    assert teachers.has_feature is not None
    without = data.train.labels.uid[(~teachers.has_feature[teachers.row]).numpy()]
    assert without.tolist() == ["t1_3"]
    assert data.shape.teacher_dims == (4,)
    assert taught(load(store, targets=("featured",))).feature is None


def test_own_verb_and_noun_classifiers(store: Store, small: StudentConfig) -> None:
    config = small.replace(verb_noun_weight=0.5, epochs=10, lr=1e-2)
    trainer, means = final_losses(store, config)
    _, first = final_losses(store, config.replace(epochs=1))
    assert 0 < means["verb_noun_loss"] < 0.7 * first["verb_noun_loss"]
    data = load_training_data(store, config, CPU)
    assert torch.equal(data.train.tensors.verb, data.train.tensors.action // 3)
    assert torch.equal(data.train.tensors.noun, data.train.tensors.action % 3)
    trainer.model.eval()
    _, features = next(data.train.batches(torch.arange(42), 42))
    output = trainer.model(features.float())
    assert output.verb_logits is not None
    assert output.noun_logits is not None
    assert output.verb_logits.shape == (42, 2)
    assert (output.noun_logits.argmax(1) == data.train.tensors.noun).float().mean() > 0.6


def test_own_scores_come_to_the_predictions(store: Store, small: StudentConfig) -> None:
    predictions = train(store, None, small.replace(verb_noun_weight=0.5)).predictions
    assert predictions.verb_scores is not None
    assert predictions.noun_scores is not None
    assert predictions.verb_scores.shape == (len(predictions), 2)
    assert predictions.noun_scores.shape == (len(predictions), 3)
    assert train(store, None, small).predictions.verb_scores is None


def test_what_is_not_asked_for_is_not_there(store: Store, small: StudentConfig) -> None:
    data = load_training_data(store, small.replace(targets=("oracle",)), CPU)
    model = Trainer(small, data.train, data.shape).model
    assert all(name.startswith("head.") for name in model.state_dict())
    output = model(torch.zeros(1, 10, 12))
    further = (output.verb_logits, output.noun_logits, output.teacher_scores, output.aligned)
    assert not any(value is not None for value in further)


def test_the_weight_of_the_distillation_is_logged(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        load(store, targets=("oracle",), weight=1.415, temperature=10.0, top_k=2)
    assert (
        "= 2.83 in the paper's convention (mean over the teacher's 2 best classes)" in caplog.text
    )
    assert "paper's 150 of EGTEA, whose mean runs over 106 classes; over 2 as here" in caplog.text


OWN = ("layers", "heads", "width", "dropout")


@pytest.mark.parametrize("loss", ["cross-entropy", "focal"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_with_every_term(
    store: Store, small: StudentConfig, head: str, loss: str
) -> None:
    sizes = {n: getattr(small.model, n) for n in OWN}
    own = {n: v if n in sizes_of(HEADS[head]) else None for n, v in sizes.items()}
    config = small.replace(
        head=head,
        **own,
        loss=loss,
        targets=("featured", "wrong"),
        target_weights="attention",
        verb_noun_weight=0.5,
        **({"feature_weight": 0.1, "past_weight": 0.1} if HEADS[head].per_frame else {}),
        epochs=1,
    )
    _, first = final_losses(store, config)
    _, last = final_losses(store, config.replace(epochs=4))
    assert last["loss"] < first["loss"]
