"""Mixing teachers: exact means, weights and temperatures that are known, and honest folds."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from antcache.errors import AlreadyExists, BadCheckpoint, BadConfig, NotFound
from antcache.kernels import DenseTargets, distillation_loss
from antcache.teacher.mixing.fit import MixConfig, attention, gather_evidence, stack
from antcache.teacher.mixing.mixture import Mixture, load_mixture, mean_mix, save_mixture
from antcache.teacher.mixing.nested import learn, score_rows

N, C = 1500, 8


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def drawn(p, seed):
    """One class from each row of probabilities."""
    u = np.random.default_rng(seed).random((len(p), 1))
    return np.minimum((p.cumsum(axis=1) < u).sum(axis=1), p.shape[1] - 1)


@pytest.fixture(scope="module")
def true_logits():
    """What the labels are drawn from."""
    return (2 * np.random.default_rng(0).standard_normal((N, C))).astype(np.float32)


@pytest.fixture(scope="module")
def labels(true_logits):
    return drawn(softmax(true_logits.astype(float)), 1)


@pytest.fixture(scope="module")
def group():
    """Thirty videos of fifty segments."""
    return np.arange(N) // 50


def test_the_mean_is_that_of_the_probabilities():
    a = np.array([[0.0, np.log(3.0)], [5.0, 5.0]], dtype=np.float32)
    b = np.array([[np.log(3.0), 0.0], [np.log(9.0), 0.0]], dtype=np.float32)
    mixed = np.exp(mean_mix("ab").mix([a, b]))
    np.testing.assert_allclose(mixed, [[0.5, 0.5], [0.7, 0.3]], rtol=1e-6)
    np.testing.assert_allclose(np.exp(mean_mix("ab").mix([a, b], np.array([1]))), [[0.7, 0.3]])


def test_weights_and_temperatures_are_applied_before_the_mean():
    a, b = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    mixture = Mixture(members=("a", "b"), kind="stack", weights=(0.3, 0.7), temperatures=(2.0, 0.5))
    expected = 0.3 * softmax(a / 2) + 0.7 * softmax(b / 0.5)
    np.testing.assert_allclose(np.exp(mixture.mix([a, b])), expected, rtol=1e-5)
    np.testing.assert_array_equal(mixture.row_weights([a, b]), np.tile([0.3, 0.7], (5, 1)))


def test_log_probabilities_far_below_the_smallest_float_survive():
    a = np.array([[0.0, -2000.0]], dtype=np.float32)
    np.testing.assert_allclose(mean_mix("ab").mix([a, a])[0], [0.0, -2000.0], atol=1e-6)


def test_the_polynomials_are_the_tempered_likelihood(true_logits, labels, group):
    rows = np.arange(0, N, 7)
    for sharpness in (0.3, 1, 10):
        z = true_logits * np.float32(sharpness)
        evidence = gather_evidence([z], labels, group, rows)
        for t in (0.2, 0.53, 1.0, 2.9, 5.0):
            exact = np.log(softmax(z[rows].astype(float) / t))[np.arange(len(rows)), labels[rows]]
            np.testing.assert_allclose(evidence.log_p([t])[0], exact, atol=1e-4)


def test_a_useless_teacher_gets_no_weight_and_the_temperature_is_found(true_logits, labels, group):
    good = 2.5 * true_logits  # 2.5 times too sure of itself
    noise = np.random.default_rng(2).standard_normal((N, C)).astype(np.float32) * 3
    mixture = stack(gather_evidence([noise, good], labels, group, np.arange(N)), ["noise", "good"])
    assert mixture.weights[0] < 0.01
    assert mixture.temperatures[1] == pytest.approx(2.5, rel=0.1)


def test_shares_that_labels_are_drawn_with_are_found(group):
    rng = np.random.default_rng(3)
    a, b = (3 * rng.standard_normal((2, N, C))).astype(np.float32)
    p = 0.75 * softmax(a.astype(float)) + 0.25 * softmax(b.astype(float))
    mixture = stack(gather_evidence([a, b], drawn(p, 4), group, np.arange(N)), ["a", "b"])
    assert mixture.weights[0] == pytest.approx(0.75, abs=0.04)
    np.testing.assert_allclose(mixture.temperatures, 1, atol=0.15)


def test_the_stack_is_an_optimum(true_logits, labels, group):
    """No small step of weights or temperatures gains: what coordinates climb to is the top."""
    rng = np.random.default_rng(5)
    teachers = [
        (true_logits * s + n * rng.standard_normal((N, C))).astype(np.float32)
        for s, n in ((1, 1), (2, 2), (0.5, 0.3))
    ]
    mixture = stack(gather_evidence(teachers, labels, group, np.arange(N)), "abc")

    def nll(mixture):
        return score_rows(mixture.mix(teachers), labels)["nll"]

    best = nll(mixture)
    assert best < nll(mean_mix("abc")) - 0.01
    for m in range(3):
        t, w = list(mixture.temperatures), list(mixture.weights)
        for factor in (0.95, 1.05):
            moved = replace(mixture, temperatures=(*t[:m], t[m] * factor, *t[m + 1 :]))
            assert nll(moved) > best - 1e-6
            shares = np.array([*w[:m], w[m] * factor, *w[m + 1 :]])
            moved = replace(mixture, weights=tuple(shares / shares.sum()))
            assert nll(moved) > best - 1e-6


@pytest.fixture(scope="module")
def experts(labels):
    """Each of two teachers knows every second segment, and says by being sure when it does."""
    rng = np.random.default_rng(6)
    knows = rng.random(N) < 0.5
    teachers = []
    for mine in (knows, ~knows):
        z = 0.5 * rng.standard_normal((N, C))
        z[np.arange(N), np.where(mine, labels, rng.integers(0, C, N))] += np.where(mine, 4, 2.5)
        teachers.append(z.astype(np.float32))
    return teachers


def test_attention_learns_which_teacher_is_right(experts, labels, group):
    """Both are equally good overall, so no constant weight can tell; how sure they are can."""
    config = MixConfig(mix="attention", steps=100, folds=3)
    learned = learn(experts, labels, group, ["a", "b"], config)
    stacked = learn(experts, labels, group, ["a", "b"], replace(config, mix="stack"))
    gain = stacked.scores["stack, held out"]["nll"] - learned.scores["attention, held out"]["nll"]
    assert gain > 0.2
    shares = learned.mixture.row_weights(experts)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    right = np.stack([z.argmax(axis=1) == labels for z in experts], axis=1)
    one = right.sum(axis=1) == 1
    assert (shares[one].argmax(axis=1) == right[one].argmax(axis=1)).mean() > 0.9


def test_a_step_of_the_attention_takes_the_gradient_of_its_batch_alone(steps_of_one_batch):
    """Every segment the same, and a rate at which no weight moves: the same gradient each time."""
    rng = np.random.default_rng(0)
    experts = [np.tile(rng.standard_normal(C).astype(np.float32), (60, 1)) for _ in range(2)]
    group = np.arange(60) // 6
    evidence = gather_evidence(experts, np.zeros(60, int), group, np.arange(60), summary=True)
    config = MixConfig(mix="attention", steps=20, patience=1000, lr=1e-12)
    attention(evidence, mean_mix("ab"), config)
    assert steps_of_one_batch(21) > 0


def test_attention_stays_the_stack_where_nothing_can_be_told(true_logits, labels, group):
    """Two copies of one teacher: every share gives the same, so no step gains."""
    teachers = [true_logits, true_logits]
    evidence = gather_evidence(teachers, labels, group, np.arange(N), summary=True)
    base = replace(mean_mix("ab"), kind="stack")
    mixed = attention(evidence, base, MixConfig(mix="attention", steps=20))
    np.testing.assert_allclose(mixed.mix(teachers), base.mix(teachers), atol=1e-5)


def test_no_video_is_mixed_by_what_was_learned_on_it(experts, labels, group):
    """Other labels in one video change nothing in what that video gets."""
    config = MixConfig(mix="attention", folds=3, steps=20, balance=None)
    before = learn(experts, labels, group, ["a", "b"], config)
    changed = np.where(group == 4, (labels + 1) % C, labels)
    after = learn(experts, changed, group, ["a", "b"], config)
    mine = group == 4
    np.testing.assert_array_equal(after.held_out[mine], before.held_out[mine])
    assert (after.held_out[~mine] != before.held_out[~mine]).any()
    assert len(before.of_fold) == 3


def test_the_same_seed_gives_the_same_and_another_one_another(experts, labels, group):
    config = MixConfig(mix="attention", steps=20)
    state = torch.random.get_rng_state()
    one, two = (learn(experts, labels, group, ["a", "b"], config) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(one.held_out, two.held_out)
    assert one.scores == two.scores
    other = learn(experts, labels, group, ["a", "b"], replace(config, seed=1))
    assert not np.array_equal(one.held_out, other.held_out)


def test_only_the_given_rows_are_learned_from(experts, labels, group):
    rows = np.flatnonzero(group % 2 == 0)
    spoilt = [np.where((group % 2 == 1)[:, None], np.nan, z) for z in experts]
    config = MixConfig(mix="stack")
    learned = learn(spoilt, labels, group, ["a", "b"], config, rows=rows)
    alone = learn([z[rows] for z in experts], labels[rows], group[rows], ["a", "b"], config)
    np.testing.assert_array_equal(learned.held_out, alone.held_out)
    assert learned.mixture == alone.mixture


def test_the_geometric_mean_is_that_of_the_logarithms(experts, labels, group):
    """Normalised; and a balance divides it."""
    learned = learn(experts, labels, group, "ab", MixConfig(mix="geometric"))
    expected = softmax((experts[0].astype(float) + experts[1]) / 2)
    np.testing.assert_allclose(np.exp(learned.mixture.mix(experts)), expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(learned.held_out, learned.mixture.mix(experts))
    assert learned.of_fold == ()
    assert learned.scores["geometric"] == score_rows(learned.held_out, labels)
    tuned = learn(experts, labels, group, "ab", MixConfig(mix="geometric", balance=0.5))
    assert {m.kind for m in (tuned.mixture, *tuned.of_fold)} == {"geometric"}
    assert {"mean", "geometric", "geometric, held out"} <= set(tuned.scores)
    prior = np.bincount(labels, minlength=C) + 1
    balanced = softmax(np.log(expected) - 0.5 * np.log(prior))
    found = np.exp(tuned.mixture.mix(experts))
    np.testing.assert_allclose(found, balanced, rtol=1e-5, atol=1e-9)


def test_a_balance_divides_by_the_prior_of_the_training_rows(group):
    z = np.zeros((N, C), dtype=np.float32)
    labels = np.where(np.arange(N) % 10 == 0, 1, 0)  # nine of class 0 to one of class 1
    learned = learn([z, z], labels, group, "ab", MixConfig(balance=1.0))
    prior = (np.bincount(labels, minlength=C) + 1) / (N + C)
    expected = (1 / prior) / (1 / prior).sum()
    np.testing.assert_allclose(np.exp(learned.mixture.mix([z, z])[0]), expected, rtol=1e-5)
    assert len(learned.of_fold) == 5


def test_a_tuned_balance_brings_rare_classes_forward(group):
    """The teacher knows the frequent class and is too shy about the rare ones."""
    rng = np.random.default_rng(7)
    prior = np.array([0.6, 0.2, 0.05, 0.05, 0.04, 0.03, 0.02, 0.01] * 2)
    labels = rng.choice(16, N, p=prior / 2)
    z = np.log(prior) + rng.standard_normal((N, 16))
    z[np.arange(N), labels] += 1.0
    teachers = [z.astype(np.float32)] * 2
    plain = learn(teachers, labels, group, "ab", MixConfig())
    tuned = learn(teachers, labels, group, "ab", MixConfig(balance=None))
    assert tuned.mixture.balance > 0
    gain = tuned.scores["mean, held out"]["recall@5"] - plain.scores["mean"]["recall@5"]
    assert gain > 5
    rare = learn(
        teachers, labels, group, "ab", MixConfig(balance=None), classes=np.array([0, 1, 8, 9])
    )
    assert rare.mixture.balance < tuned.mixture.balance  # the frequent classes alone want less


def test_members_with_the_learned_weights_teach_as_the_joint_targets_do(experts, labels, group):
    """What the attributes promise to a student: tempered logits and weights are the mixture."""
    mixture = stack(gather_evidence(experts, labels, group, np.arange(N)), ["a", "b"])
    side_by_side = torch.stack(
        [torch.from_numpy(z[:50]) / t for z, t in zip(experts, mixture.temperatures, strict=True)]
    )
    joint = torch.from_numpy(mixture.mix(experts, np.arange(50)))
    student = torch.randn(50, C, generator=torch.Generator().manual_seed(0))
    one = distillation_loss(
        student,
        DenseTargets(logits=side_by_side),
        teacher_weight=torch.tensor(mixture.weights),
        impl="torch",
    )
    two = distillation_loss(student, DenseTargets(logits=joint[None]), impl="torch")
    torch.testing.assert_close(one, two)


def test_a_mixture_is_kept_whole(tmp_path, experts, labels, group):
    folder = tmp_path / "teachers" / "joint"
    for config in (
        MixConfig(),
        MixConfig(mix="geometric"),
        MixConfig(mix="stack"),
        MixConfig(mix="attention", steps=5, balance=0.5),
    ):
        mixture = learn(experts, labels, group, ["a", "b"], config).mixture
        save_mixture(mixture, folder, about={"seed": 0}, overwrite=True)
        again, about = load_mixture(folder)
        np.testing.assert_array_equal(again.mix(experts), mixture.mix(experts))
        assert about == {"seed": 0}
        assert (folder / "mixture.safetensors").is_file() == (config.mix == "attention")
    with pytest.raises(AlreadyExists, match="already here"):
        save_mixture(mixture, folder, about={})
    assert [p.name for p in folder.parent.iterdir()] == ["joint"]


def test_broken_mixtures_are_refused(tmp_path, experts, labels, group):
    with pytest.raises(NotFound, match="no mixture here"):
        load_mixture(tmp_path)
    mixture = learn(experts, labels, group, ["a", "b"], MixConfig(mix="attention", steps=2)).mixture
    folder = tmp_path / "joint"
    save_mixture(mixture, folder, about={})
    text = (folder / "mixture.json").read_text()
    arrays = (folder / "mixture.safetensors").read_bytes()
    (folder / "mixture.safetensors").write_bytes(arrays[:50])
    with pytest.raises(BadCheckpoint, match="can't be read"):
        load_mixture(folder)
    (folder / "mixture.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="attention and a network need each other"):
        load_mixture(folder)
    (folder / "mixture.safetensors").write_bytes(arrays)
    for wrong in ("{}", "[]", text.replace("mixture-1", "mixture-9"), json.dumps("x")):
        (folder / "mixture.json").write_text(wrong)
        with pytest.raises(BadCheckpoint, match="can't be read"):
            load_mixture(folder)
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("")
    with pytest.raises(AlreadyExists, match="not a mixture"):
        save_mixture(mixture, elsewhere, about={}, overwrite=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mix": "median"}, "unknown mix"),
        ({"balance": -0.1}, "impossible balance"),
        ({"balance": float("nan")}, "impossible balance"),
        ({"folds": 1}, "impossible folds"),
        ({"hidden": 0}, "impossible hidden"),
        ({"lr": 0.0}, "impossible lr"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(BadConfig, match=words):
        MixConfig(**settings)


def test_input_that_does_not_fit(experts, labels, group):
    with pytest.raises(BadConfig, match="do not fit the mixture"):
        mean_mix("abc").mix(experts)
    with pytest.raises(BadConfig, match="do not fit the mixture"):
        learn([experts[0], experts[1][:, :-1]], labels, group, ["a", "b"], MixConfig())
    with pytest.raises(BadConfig, match="at least two teachers"):
        gather_evidence(experts[:1], labels, group, np.arange(N), summary=True)
    with pytest.raises(BadConfig, match="folds"):
        learn(experts, labels, np.zeros(N, int), ["a", "b"], MixConfig(mix="stack"))
    for wrong, words in (
        ({"weights": (0.5, 0.6)}, r"weights must be shares of 1: found \(0.5, 0.6\)"),
        ({"weights": (1.5, -0.5)}, r"weights must be shares of 1: found \(1.5, -0.5\)"),
        ({"temperatures": (1.0, 0.0)}, r"temperatures must be above 0: found \(1.0, 0.0\)"),
        ({"temperatures": (1.0,)}, "a weight and a temperature for each member"),
        ({"balance": 1.0}, "a balance and a class prior need each other: found 1.0"),
        ({"kind": "attention"}, "attention and a network need each other: found attention"),
    ):
        with pytest.raises(BadConfig, match=words):
            replace(mean_mix("ab"), **wrong)
