"""The simulated recogniser and the controls of the distillation benchmark, on a few segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.store import SoftTargets, Store

VERBS, NOUNS = ("take", "cut", "put"), ("knife", "onion")
ACTIONS = ((0, 0), (1, 1), (2, 0))
TAXONOMY = Taxonomy(
    dataset="few",
    verbs=VERBS,
    nouns=NOUNS,
    actions=tuple(f"{VERBS[v]}_{NOUNS[n]}" for v, n in ACTIONS),
    action_verbs=tuple(v for v, _ in ACTIONS),
    action_nouns=tuple(n for _, n in ACTIONS),
)


@pytest.fixture(scope="module")
def simulated(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("simulated")


@pytest.fixture(scope="module")
def runs(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("distillation_runs")


def few(video: str = "a") -> Segments:
    """take knife from 1 to 2 s, cut onion from 1.5 to 3.2 s, nothing, put knife from 4 to 4.5 s."""
    return Segments.of(
        uid=[f"{video}{i}" for i in range(3)],
        video=[video] * 3,
        start_s=[1.0, 1.5, 4.0],
        stop_s=[2.0, 3.2, 4.5],
        verb=[0, 1, 2],
        noun=[0, 1, 0],
        action=[0, 1, 2],
    )


def test_rows_carry_what_is_under_way(simulated: ModuleType) -> None:
    rows = simulated.features_of("a", few(), TAXONOMY, noise=0.0).astype(np.float64)
    verbs, nouns = simulated.directions(TAXONOMY)
    assert np.allclose(np.linalg.norm(np.concatenate([verbs, nouns]), axis=1), 1)
    take, cut, put = (verbs[v] + nouns[n] for v, n in ACTIONS)
    nothing = np.zeros(simulated.DIM)
    # Rows 0 to 9, every half second; a segment has not begun before its start, and is over at its
    # stop.
    expected = [nothing, nothing, take, take + cut, cut, cut, cut, nothing, put, nothing]
    assert rows.shape == (10, simulated.DIM)
    assert np.allclose(rows - rows[0], np.stack(expected), atol=2e-3)


def test_offset_is_the_videos_own_and_constant(simulated: ModuleType) -> None:
    one, two = (simulated.features_of(v, few(v), TAXONOMY, noise=0.0)[[0, 1, 7, 9]] for v in "ab")
    assert (one == one[0]).all()
    assert 0.5 < np.linalg.norm(one[0].astype(np.float64)) / simulated.OFFSET < 1.5
    assert not np.allclose(one[0], two[0], atol=0.05)


def test_noise_has_its_deviation_and_repeats(simulated: ModuleType) -> None:
    long = Segments.of(
        uid=["x"], video=["x"], start_s=[0.0], stop_s=[500.0], verb=[0], noun=[0], action=[0]
    )
    clean, noisy, again = (
        simulated.features_of("x", long, TAXONOMY, noise=noise).astype(np.float64)
        for noise in (0.0, 0.5, 0.5)
    )
    assert (noisy == again).all()
    assert np.std(noisy - clean) == pytest.approx(0.5, rel=0.01)
    assert np.abs(np.mean(noisy - clean)) < 0.01


def test_stores_of_real_timelines(
    simulated: ModuleType, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tuning knows no segment of the validation split, but those that lie in its videos."""
    monkeypatch.setattr(simulated, "DATA", data_dir)
    final, taxonomy = simulated.splits_of("egtea", simulated.FINAL)
    tuning, _ = simulated.splits_of("egtea", simulated.TUNING)
    assert set(tuning) == {"train", "validation", simulated.CONTEXT}
    assert not set(tuning["train"].videos) & set(tuning["validation"].videos)
    both = {*tuning["train"].uid.tolist(), *tuning["validation"].uid.tolist()}
    assert both == set(final["train"].uid.tolist())
    ek55, _ = simulated.splits_of("epic-kitchens-55", simulated.TUNING)
    assert set(ek55) == {"train", "validation"}
    assert len(ek55["validation"].videos) == round(0.2 * 232)

    small = {name: s[np.flatnonzero(s.video == s.video[0])] for name, s in final.items()}
    monkeypatch.setattr(simulated, "splits_of", lambda *_: (small, taxonomy))
    store = simulated.make_store(tmp_path, "egtea", simulated.FINAL)
    assert simulated.make_store(tmp_path, "egtea", simulated.FINAL).path == store.path
    stream = store.stream(simulated.STREAM)
    assert (stream.dtype, stream.dim, stream.fps) == ("float16", 256, 2.0)
    assert stream.config["simulated"] is True
    for segments in small.values():
        for video in segments.videos:
            rows = store.features(simulated.STREAM, video).num_rows
            assert rows > segments.stop_s[segments.video == video].max() * 2 - 1


def test_smoothing_of_equal_entropy(runs: ModuleType) -> None:
    def entropy(smoothing: float, classes: int) -> float:
        target = np.full(classes, smoothing / classes)
        target[0] += 1 - smoothing
        return float(-(target * np.log(target)).sum())

    for smoothing, classes in ((0.1, 106), (0.6, 2513)):
        found = runs.smoothing_of_entropy(entropy(smoothing, classes), classes)
        assert found == pytest.approx(smoothing, abs=1e-9)
    assert runs.smoothing_of_entropy(0.0, 106) < 1e-9


def store_with_targets(folder: Path) -> Store:
    """Three training segments with targets that are the same in all, and one of validation."""
    store = Store.create(folder / "few.zarr", dataset="few")
    train, other = few(), few("b")[np.array([0])]
    for split, segments in (("train", train), ("validation", other)):
        store.write_labels(split, segments, TAXONOMY, source="a test")
    targets = SoftTargets(
        uid=np.concatenate([train.uid, other.uid]),
        valid=np.ones(4, dtype=bool),
        logits=np.log(
            [[0.5, 0.3, 0.2], [0.15, 0.05, 0.8], [0.35, 0.25, 0.4], [0.2] * 3], dtype=np.float32
        ),
        attributes={"taxonomy": TAXONOMY.fingerprint, "folds": 0},
    )
    store.write_targets("joint_in-sample_complete", targets)
    return store


def test_mixed_targets_by_hand(runs: ModuleType, tmp_path: Path) -> None:
    store = store_with_targets(tmp_path)
    settings = {"targets": "joint_in-sample_complete", "weight": 1.0}
    mixed = np.array([[0.75, 0.15, 0.1], [0.075, 0.525, 0.4], [0.175, 0.125, 0.7]])
    cut = np.array([[13 / 16, 3 / 16, 0], [3 / 38, 1 / 2, 8 / 19], [7 / 30, 0, 23 / 30]])
    for expected, k in ((mixed, None), (cut, 2)):
        logs = np.log(expected, out=np.zeros_like(expected), where=expected > 0)
        smoothing = runs.smoothing_of_entropy(float(-(expected * logs).sum(axis=1).mean()), 3)
        found = runs.equal_entropy_smoothing(store, {**settings, "top_k": k})
        assert found == pytest.approx(smoothing, abs=1e-6)


def test_frequencies_are_those_of_what_is_trained_on(runs: ModuleType, tmp_path: Path) -> None:
    store = store_with_targets(tmp_path)
    result = SimpleNamespace(dropped={"train": {"starts too early": ("a1",), "other": ()}})
    expected = np.log(np.array([2, 1, 2]) / 5)
    np.testing.assert_allclose(runs.frequencies(store, result), expected, rtol=1e-6)


def test_one_training_gives_all_strengths(runs: ModuleType) -> None:
    plain, adjusted, other = (
        runs.StudentRun(dataset="few", part="tuning", settings=settings)
        for settings in ({}, {"logit_adjustment": 0.5}, {"lr": 0.5, "logit_adjustment": 0.5})
    )
    assert plain.key == adjusted.key != other.key
    assert adjusted.unadjusted == plain.config
    assert other.unadjusted.optimization.lr == 0.5


def test_shuffled_teacher_swaps_training_segments_alone(runs: ModuleType, tmp_path: Path) -> None:
    store = store_with_targets(tmp_path)
    name = runs.TargetName(shuffled=True)
    assert runs.TargetName.parse(str(name)) == name
    runs.require_targets(store, name)
    straight, swapped = store.targets("joint_in-sample_complete"), store.targets(str(name))
    assert straight.logits is not None
    assert swapped.logits is not None
    assert sorted(map(tuple, swapped.logits[:3])) == sorted(map(tuple, straight.logits[:3]))
    assert (swapped.logits[:3] != straight.logits[:3]).any()
    assert (swapped.logits[3] == straight.logits[3]).all()


def test_names_are_features_of_training_segments_alone(
    runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embedded(names: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[len(name), ord(name[0])] for name in names], np.float32)

    monkeypatch.setattr(runs, "name_embeddings", embedded)
    store = store_with_targets(tmp_path)
    name = runs.TargetName(named=True)
    assert runs.TargetName.parse(str(name)) == name
    runs.require_targets(store, name)
    bare, named = store.targets("joint_in-sample_complete"), store.targets(str(name))
    np.testing.assert_array_equal(named.logits, bare.logits)
    assert named.feature is not None
    own = embedded(TAXONOMY.actions)[store.labels("train").action]
    np.testing.assert_array_equal(named.feature[named.rows_for(store.labels("train").uid)], own)
    other = named.rows_for(store.labels("validation").uid)
    assert np.isnan(named.feature[other]).all()
