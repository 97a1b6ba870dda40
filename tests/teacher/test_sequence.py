"""The sequence teacher: learns, repeats itself, keeps random state alone and can be restored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from antcache.errors import BadCheckpoint, BadConfig
from antcache.teacher.histories import Examples, HistoryConfig
from antcache.teacher.sequence import EDGES_S, SequenceConfig, SequenceTeacher
from antcache.teacher.training import one_cycle

SMALL = SequenceConfig(length=6, attended=3, width=16, layers=1, heads=2, epochs=2, batch=8)


@pytest.fixture(scope="module")
def labelled(timeline):
    return timeline.examples(HistoryConfig(), SMALL.length)


def test_it_learns_what_follows_what(taxonomy):
    """The target is decided by the last action, the noun being new: only attention can know."""
    rng = np.random.default_rng(0)
    history = rng.integers(0, 12, (96, 6))
    follows = rng.permutation(12)
    examples = Examples(history=history, target=follows[history[:, -1]], group=np.arange(96))
    config = SequenceConfig(
        length=6, attended=3, width=32, layers=1, heads=2, epochs=30, batch=16, dropout=0.0, lr=5e-3
    )
    teacher = SequenceTeacher(taxonomy, config)
    teacher.fit(examples)
    assert (teacher.predict(examples).logits.argmax(axis=1) == examples.target).mean() > 0.95


def test_a_step_takes_the_clipped_gradient_of_its_batch_alone(taxonomy, steps_of_one_batch):
    """One batch, and a rate at which no weight moves: the same gradient each time."""
    rng = np.random.default_rng(0)
    history, target = rng.integers(0, 12, (40, 6)), rng.integers(0, 12, 40)
    examples = Examples(history=history, target=target, group=np.arange(40))
    still = {"batch": 64, "epochs": 4, "dropout": 0.0, "lr": 1e-12, "memory_lr": 1e-12}
    SequenceTeacher(taxonomy, replace(SMALL, **still)).fit(examples)
    assert steps_of_one_batch(4) == pytest.approx(1)  # it would be longer


def test_the_memory_reaches_further_than_attention(taxonomy):
    """The first of six actions, out of the transformer's sight, decides the verb of its noun."""
    rng = np.random.default_rng(0)
    verb = rng.integers(0, 2, 128)
    history = np.column_stack([6 * verb, np.tile([1, 2, 1, 2, 1], (128, 1))])  # take or open pan
    target = 6 * verb + 3  # put or close pan
    examples = Examples(history=history, target=target, group=np.arange(128))
    config = SequenceConfig(
        length=6, attended=2, width=16, layers=1, heads=2, epochs=20, batch=16, dropout=0.0
    )
    teacher = SequenceTeacher(taxonomy, config)
    teacher.fit(examples)
    assert (teacher.predict(examples).logits.argmax(axis=1) == target).all()


def test_times_tell_apart_what_actions_do_not(taxonomy):
    """The same history: what lasted long is closed, what was short is put; an old one is taken."""
    rng = np.random.default_rng(0)
    case = rng.integers(0, 3, 96)
    ago = np.array([[9, 5], [9, 5], [90, 60]], dtype=np.float32)[case]
    lasted = np.array([[1, 4.9], [1, 0.3], [1, 1]], dtype=np.float32)[case]
    examples = Examples(
        history=np.tile([7, 6], (96, 1)),
        target=np.array([9, 3, 0])[case],
        group=np.arange(96),
        ago_s=ago,
        lasted_s=lasted,
    )
    config = SequenceConfig(
        length=2, attended=2, times=True, width=16, layers=1, heads=2, epochs=20, batch=16, lr=5e-3
    )
    teacher = SequenceTeacher(taxonomy, config)
    teacher.fit(examples)
    assert (teacher.predict(examples).logits.argmax(axis=1) == examples.target).all()


def test_unknown_times_have_a_bin_of_their_own(taxonomy, timeline):
    config = SequenceConfig(**{**SMALL.__dict__, "times": True})
    teacher = SequenceTeacher(taxonomy, config)
    bins = teacher._network.times.bins
    edge = EDGES_S[3]
    seconds = torch.tensor([-5.0, 0.0, edge, edge * 1.01, 1e9, np.nan])
    assert bins(seconds).tolist() == [0, 0, 3, 4, len(EDGES_S), len(EDGES_S) + 1]
    text = timeline.examples(HistoryConfig(), 6)
    timed = timeline.examples(HistoryConfig(), 6, times=True)
    teacher.fit(timed, scripts=text)
    assert np.isfinite(teacher.predict(timed).logits).all()
    for call in (teacher.fit, teacher.predict):
        with pytest.raises(BadConfig, match="times=True"):
            call(text)


def test_empty_histories_get_a_prediction(taxonomy, labelled):
    teacher = SequenceTeacher(taxonomy, SMALL)
    empty = Examples(history=np.full((2, 6), -1), target=np.zeros(2, int), group=np.arange(2))
    teacher.fit(labelled)
    logits = teacher.predict(empty).logits
    assert logits.shape == (2, 12)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5)


def test_the_seed_decides_and_the_callers_random_state_stays(taxonomy, labelled):
    def trained(seed):
        config = SequenceConfig(**{**SMALL.__dict__, "seed": seed})
        teacher = SequenceTeacher(taxonomy, config)
        teacher.fit(labelled)
        return teacher.predict(labelled).logits

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = trained(0)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first, trained(0))
    assert (first != trained(1)).any()


def test_fitting_again_starts_afresh(taxonomy, labelled):
    teacher = SequenceTeacher(taxonomy, SMALL)
    teacher.fit(labelled)
    first = teacher.predict(labelled).logits
    teacher.fit(labelled)
    np.testing.assert_array_equal(teacher.predict(labelled).logits, first)


def test_scripts_are_trained_on(taxonomy, labelled):
    text = Examples(history=np.full((200, 6), 9), target=np.full(200, 11), group=np.zeros(200, int))
    asked = text[:1]
    plain, told = SequenceTeacher(taxonomy, SMALL), SequenceTeacher(taxonomy, SMALL)
    plain.fit(labelled)
    told.fit(labelled, scripts=text)
    assert told.predict(asked).logits[0, 11] > plain.predict(asked).logits[0, 11]


def test_a_teacher_can_be_taken_up_again(taxonomy, labelled):
    teacher = SequenceTeacher(taxonomy, SMALL)
    teacher.fit(labelled)
    other = SequenceTeacher(taxonomy, SMALL)
    other.restore(teacher.arrays())
    np.testing.assert_array_equal(other.predict(labelled).logits, teacher.predict(labelled).logits)
    wider = SequenceTeacher(taxonomy, SequenceConfig(**{**SMALL.__dict__, "width": 32}))
    with pytest.raises(BadCheckpoint, match="another network"):
        wider.restore(teacher.arrays())


def test_progress_counts_epochs(taxonomy, labelled):
    seen = []
    teacher = SequenceTeacher(taxonomy, SMALL)
    teacher.fit(labelled, progress=lambda *args: seen.append(args))
    assert seen == [("epochs", 1, 2), ("epochs", 2, 2)]


def test_one_cycle_rises_and_falls():
    assert one_cycle(0.0, 0.2) == 0
    assert one_cycle(0.1, 0.2) == pytest.approx(0.5)
    assert one_cycle(0.2, 0.2) == 1
    assert one_cycle(0.6, 0.2) == pytest.approx(0.5)
    assert one_cycle(1.0, 0.2) == pytest.approx(0)
    assert one_cycle(0.0, 0.0) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attended", 21),
        ("attended", 0),
        ("width", 130),
        ("dropout", 1.0),
        ("verb_weight", -0.1),
        ("epochs", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("weight_decay", -1.0),
    ],
)
def test_impossible_settings_are_refused(name, value):
    words = rf"impossible {name}: expected .*, found {value}$"
    with pytest.raises(BadConfig, match=words):
        SequenceConfig(**{name: value})


def test_an_unusable_device_and_no_examples_are_refused(taxonomy, labelled):
    for device in ("abacus", "cuda:99"):
        with pytest.raises(BadConfig, match="device"):
            SequenceTeacher(taxonomy, SMALL, device)
    with pytest.raises(BadConfig, match="nothing to train on"):
        SequenceTeacher(taxonomy, SMALL).fit(labelled[:0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_predicts_as_on_the_cpu(taxonomy, labelled):
    there = SequenceTeacher(taxonomy, SMALL, "cuda")
    there.fit(labelled)
    here = SequenceTeacher(taxonomy, SMALL)
    here.restore(there.arrays())
    np.testing.assert_allclose(
        here.predict(labelled).logits, there.predict(labelled).logits, atol=0.1
    )
