"""What figures can't tell: equal metrics, few classes, p at its floor, rounding, coverage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations import Segments, Taxonomy
from antcache.cli.main import cli
from antcache.evaluation import Predictions, score
from antcache.evaluation.bootstrap import difference
from antcache.evaluation.caveats import few_classes, same_metrics
from antcache.evaluation.comparing.compare import CompareConfig, compare
from antcache.evaluation.report import render
from antcache.evaluation.report.words import summary
from antcache.evaluation.sheet import BootstrapConfig
from antcache.store import Store

QUICK = CompareConfig(over="all", sampling=BootstrapConfig(resamples=20))


def segments_of(taxonomy: Taxonomy, action: list[int]) -> Segments:
    """A segment for each action, two in a video, that begins late enough to be seen."""
    ids = np.array(action)
    return Segments.of(
        uid=[f"s{i}" for i in range(len(ids))],
        video=[f"v{i // 2}" for i in range(len(ids))],
        start_s=np.arange(len(ids)) + 2.0,
        stop_s=np.arange(len(ids)) + 3.0,
        verb=taxonomy.verb_of[ids],
        noun=taxonomy.noun_of[ids],
        action=ids,
    )


def kitchen(folder: Path, taxonomy: Taxonomy, action: list[int]) -> Store:
    made = Store.create(folder / "kitchen")
    made.write_labels("validation", segments_of(taxonomy, action), taxonomy, source="test")
    return made


def save(store: Store, path: Path, best: list[int], uids: list[int] | None = None) -> str:
    """Predictions whose best action is given; the others are not ranked."""
    scores = np.full((len(best), len(store.taxonomy.actions)), -np.inf, dtype=np.float32)
    scores[np.arange(len(best)), best] = 0.0
    Predictions(
        uid=np.array([f"s{i}" for i in (uids or range(len(best)))]),
        scores=scores,
        split="validation",
        taxonomy=store.taxonomy.fingerprint,
    ).save(path)
    return str(path)


def run(*words: object) -> Result:
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result


def wide(actions: int, verbs: int, nouns: int) -> Taxonomy:
    """A taxonomy of these sizes."""
    return Taxonomy(
        dataset="wide",
        verbs=tuple(f"verb {i}" for i in range(verbs)),
        nouns=tuple(f"noun {i}" for i in range(nouns)),
        actions=tuple(f"action {i}" for i in range(actions)),
        action_verbs=tuple(i % verbs for i in range(actions)),
        action_nouns=tuple(i % nouns for i in range(actions)),
    )


@settings(max_examples=30, deadline=None)
@given(
    action=st.lists(st.integers(0, 4), min_size=2, max_size=8),
    shots=st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True),
    seed=st.integers(0, 2**20),
)
def test_what_is_the_same_is_so_for_any_scores(
    action: list[int], shots: list[int], seed: int
) -> None:
    taxonomy = Taxonomy(
        dataset="small",
        verbs=("take", "put", "wash"),
        nouns=("cup", "knife", "pan"),
        actions=("take cup", "take knife", "put cup", "put pan", "take pan"),
        action_verbs=(0, 0, 1, 1, 0),
        action_nouns=(0, 1, 0, 2, 2),
        many_shot_actions=tuple(shots),
        many_shot_verbs=(0,),
        many_shot_nouns=(0, 1),
    )
    segments = segments_of(taxonomy, action)
    same = same_metrics(taxonomy, segments)
    rng = np.random.default_rng(seed)
    drawn = [
        score(rng.normal(size=(len(action), 5)).astype(np.float32), segments, taxonomy)
        for _ in range(8)
    ]
    for name, other in same.items():
        assert other not in same
        for figures in drawn:
            assert figures[name] == pytest.approx(figures[other], rel=1e-12)
    everywhere = len(set(action)) == len(taxonomy.actions)
    assert ("action/class_mean_top1_all_classes" in same) == everywhere
    assert ("action/many_shot_recall@5" in same) == (set(action) <= set(shots)), (
        "where the list has a part of the classes, figures may differ"
    )


def test_the_same_figures_are_printed_once(tmp_path: Path, taxonomy: Taxonomy) -> None:
    full = replace(taxonomy, many_shot_actions=(0, 1, 2, 3, 4))
    store = kitchen(tmp_path, full, [0, 0, 1, 2, 3, 4])
    a, b = (save(store, tmp_path / n, best) for n, best in (("a", [0] * 6), ("b", [1] * 6)))
    for words in (
        ("evaluate", store.path, a),
        ("evaluate", store.path, a, "--bootstrap", 10),
        ("compare", store.path, a, b, "--over", "all", "--bootstrap", 10),
    ):
        lines = run(*words).stdout.splitlines()
        assert [line for line in lines if line.split()[:1] == ["action/recall@5"]]
        assert not [line for line in lines if line.split()[:1] == ["action/many_shot_recall@5"]]
        assert [
            line
            for line in lines
            if line.startswith("the same here: ")
            and "action/many_shot_recall@5 = action/recall@5" in line
        ]
    # A denominator in which they differ shows both: s5, the only one of action 4, is not predicted.
    part = save(store, tmp_path / "part", [0] * 5, uids=[0, 1, 2, 3, 4])
    lines = run("evaluate", store.path, part).stdout.splitlines()
    assert [line for line in lines if line.split()[:1] == ["action/class_mean_top1_all_classes"]]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((6, 3, 6), "83 % with 6 actions, 100 % with 3 verbs, 83 % with 6 nouns"),
        ((106, 19, 51), None),
        ((40, 10, 11), "50 % with 10 verbs"),
        ((2513, 125, 352), None),
    ],
)
def test_few_classes_are_told(sizes: tuple[int, int, int], said: str | None) -> None:
    sentence = few_classes(wide(*sizes))
    assert sentence is None if said is None else sentence is not None and f"in {said}." in sentence


def test_every_command_that_scores_says_so_once(tmp_path: Path) -> None:
    store = kitchen(tmp_path, wide(6, 3, 2), [0, 1, 2, 3, 4, 5])
    a, b = (save(store, tmp_path / n, [0] * 6) for n in ("a", "b"))
    for words in (
        ("evaluate", store.path, a, b),
        ("compare", store.path, a, b, "--over", "all", "--bootstrap", 10),
    ):
        assert run(*words).stdout.count("mean little with so few classes") == 1
    found = compare(store, [a], [b], config=QUICK)
    assert render(found, store.taxonomy, QUICK).count("mean little with so few classes") == 1


@pytest.mark.parametrize(("resamples", "said"), [(19, "<= 0.100"), (999, "<= 0.002")])
def test_p_at_its_floor(resamples: int, said: str) -> None:
    draws = 10.0 + np.linspace(-1, 1, resamples)
    assert difference(10.0, draws).p_text == said
    crossing = np.concatenate([draws[1:], [-500.0]])
    assert not difference(float(crossing.mean()), crossing).p_text.startswith("<=")


def test_p_of_many_resamples_is_no_zero() -> None:
    draws = 10.0 + np.linspace(-1, 1, 99_999)
    assert difference(10.0, draws).p_text == "<= 2e-05"


def test_equal_counts_are_no_gain(tmp_path: Path) -> None:
    """Six hits of three seeds on three segments each; as sums of thirds they differ in a bit."""
    store = kitchen(tmp_path, wide(12, 11, 11), [0, 0, 0, 1])
    hits = {"a": ([2, 0, 0], [2, 0, 0], [2, 0, 0]), "b": ([0, 0, 0], [0, 0, 2], [0, 2, 2])}
    sides = {
        side: [save(store, tmp_path / f"{side}{i}", [*best, 1]) for i, best in enumerate(runs)]
        for side, runs in hits.items()
    }
    found = compare(store, sides["a"], sides["b"], config=QUICK)
    assert (found.gained(), found.lost()) == ([], [])
    assert {c.gain for c in found.classes} == {0.0}
    assert "0 gain in recall@5, 0 lose and 2 stay" in " ".join(summary(found))


@pytest.mark.parametrize("seeds", [1, 2])
def test_unequal_coverage_is_said_first(tmp_path: Path, seeds: int) -> None:
    store = kitchen(tmp_path, wide(12, 11, 11), [0, 1, 2, 3, 4, 5])
    a = [save(store, tmp_path / f"a{i}", [0] * 6) for i in range(seeds)]
    b = [save(store, tmp_path / f"b{i}", [0] * 4, uids=[0, 1, 2, 3]) for i in range(seeds)]
    sides = [word for one, other in zip(a, b, strict=True) for word in ("--a", one, "--b", other)]
    words = ("compare", store.path, *sides, "--over", "all", "--bootstrap", 10)
    one, two, three = ("a0", "b0", "c0") if seeds == 1 else "abc"
    said = f"of 6, 2 are predicted by {one} alone and 0 by {two} alone"
    assert said in run(*words).stdout.splitlines()[0]
    assert said in json.loads(run(*words, "--json").stdout)["notes"][0]
    assert said in summary(compare(store, a, b, config=QUICK))[0]
    assert not compare(store, a, a, config=QUICK).notes
    # Equally many, but others.
    c = [save(store, tmp_path / f"c{i}", [0] * 4, uids=[2, 3, 4, 5]) for i in range(seeds)]
    notes = compare(store, b, c, config=QUICK).notes
    assert f"of 6, 2 are predicted by {two} alone and 2 by {three} alone" in notes[0]
