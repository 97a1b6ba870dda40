"""Comparison of two systems: figures by hand, pairs of seeds, classes, buckets and examples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.annotations import Segments, Taxonomy
from antcache.cli.evaluation.compare import compare as command
from antcache.errors import BadConfig, FingerprintMismatch, NotFound
from antcache.evaluation import Predictions
from antcache.evaluation.comparing.buckets import CHANGES, TEACHER
from antcache.evaluation.comparing.compare import CompareConfig, Comparison, compare
from antcache.evaluation.metrics import score
from antcache.evaluation.sheet import BootstrapConfig
from antcache.store import SoftTargets, Store

QUICK = CompareConfig(over="all", sampling=BootstrapConfig(resamples=50))


def one_hot(*best: int) -> np.ndarray:
    """Scores (n, 5) whose best class is given; then the others by id."""
    scores = -np.tile(np.arange(5, dtype=np.float32), (len(best), 1))
    scores[np.arange(len(best)), best] = 5.0
    return scores


@pytest.fixture
def kitchen(tmp_path: Path, taxonomy: Taxonomy) -> Store:
    """Eight segments in four videos; all begin late enough to be seen."""
    action = np.array([0, 0, 2, 3, 0, 1, 1, 4])
    segments = Segments.of(
        uid=[f"s{i}" for i in range(8)],
        video=["v", "v", "w", "w", "x", "x", "y", "y"],
        start_s=np.arange(8) + 2.0,
        stop_s=np.arange(8) + 3.0,
        verb=taxonomy.verb_of[action],
        noun=taxonomy.noun_of[action],
        action=action,
    )
    made = Store.create(tmp_path / "kitchen")
    made.write_labels("validation", segments, taxonomy, source="test")
    return made


def save(store: Store, path: Path, scores: np.ndarray, uids: list[str] | None = None) -> str:
    uid = np.array(uids or [f"s{i}" for i in range(8)])
    Predictions(
        uid=uid, scores=scores, split="validation", taxonomy=store.taxonomy.fingerprint
    ).save(path)
    return str(path)


TRUTH = (0, 0, 2, 3, 0, 1, 1, 4)
A = (0, 1, 2, 0, 1, 1, 0, 0)  # right: 0, 2, 5
B = (0, 0, 1, 0, 0, 1, 1, 0)  # right: 0, 1, 4, 5, 6; fixed 1, 4, 6; broken 2
T = (1, 0, 0, 3, 0, 1, 0)  # of s0 to s6, right: 1, 3, 4, 5; s7 has none


@pytest.fixture
def compared(kitchen: Store, tmp_path: Path) -> Comparison:
    targets = SoftTargets(
        uid=np.array([f"s{i}" for i in range(7)]),
        valid=np.ones(7, dtype=bool),
        logits=one_hot(*T),
        attributes={"taxonomy": kitchen.taxonomy.fingerprint},
    )
    kitchen.write_targets("count", targets)
    a, b = save(kitchen, tmp_path / "a", one_hot(*A)), save(kitchen, tmp_path / "b", one_hot(*B))
    return compare(kitchen, [a], [b], teacher="targets/count", config=QUICK)


def test_metrics_are_those_of_score(compared: Comparison, kitchen: Store):
    segments = kitchen.labels("validation")
    scores = [score(one_hot(*best), segments, kitchen.taxonomy) for best in (A, B)]
    assert list(compared.metrics) == [name for name in scores[0] if name != "n"]
    for name, change in compared.metrics.items():
        assert (change.a, change.b) == ((scores[0][name],), (scores[1][name],))
        assert change.difference.value == pytest.approx(scores[1][name] - scores[0][name])
        assert change.difference.low <= change.difference.high
        assert change.deviation is None
    top1 = compared.metrics["action/top1"]
    assert (top1.mean_a, top1.mean_b, top1.difference.value) == (37.5, 62.5, 25.0)


def test_a_model_is_judged_by_its_own_verbs_and_nouns(kitchen: Store, tmp_path: Path):
    """As `score` does it; what the actions say of verbs and nouns is another matter."""
    segments = kitchen.labels("validation")
    verbs, nouns = np.zeros((8, 3), np.float32), np.zeros((8, 4), np.float32)
    verbs[np.arange(8), segments.verb] = 1
    nouns[np.arange(8), (segments.noun + 1) % 4] = 1
    plain = save(kitchen, tmp_path / "plain", one_hot(*A))
    own = replace(Predictions.load(plain), verb_scores=verbs, noun_scores=nouns)
    own.save(tmp_path / "own")
    found = compare(kitchen, [plain], [str(tmp_path / "own")], config=QUICK).metrics
    expected = score(one_hot(*A), segments, kitchen.taxonomy, verb_noun_scores=(verbs, nouns))
    assert {name: change.b[0] for name, change in found.items()} == {
        name: value for name, value in expected.items() if name != "n"
    }
    assert (found["verb/top1"].b[0], found["noun/top1"].b[0]) == (100, 0)
    assert found["verb/top1"].a[0] < 100


def test_buckets_by_hand(compared: Comparison):
    counts = {(c.teacher, c.change): c.count for c in compared.buckets[0].cells}
    expected = dict.fromkeys(((t, c) for t in TEACHER for c in CHANGES), 0)
    expected |= {
        ("right", "fixed"): 2,  # 1, 4
        ("right", "right"): 1,  # 5
        ("right", "wrong"): 1,  # 3
        ("wrong", "fixed"): 1,  # 6
        ("wrong", "broken"): 1,  # 2
        ("wrong", "right"): 1,  # 0
        ("absent", "wrong"): 1,  # 7
    }
    assert counts == expected
    fixed = compared.buckets[0].cell("right", "fixed")
    assert fixed.share == 25
    first = fixed.examples[0]
    assert (first.uid, first.video, first.start_s, first.stop_s) == ("s1", "v", 3, 4)
    assert (first.truth, first.a, first.b) == ("take cup", "take knife", "take cup")
    assert (first.rank_a, first.rank_b, first.rank_teacher, first.seeds) == (1, 0, 0, 1)
    assert [e.uid for e in fixed.examples] == ["s1", "s4"]
    broken = compared.buckets[0].cell("wrong", "broken").examples
    assert [(e.uid, e.teacher) for e in broken] == [("s2", "take cup")]
    # Of five classes, all are among the five best.
    assert compared.buckets[1].k == 5
    assert compared.buckets[1].cell("right", "right").count == 7


def test_classes_gained_and_lost(kitchen: Store, tmp_path: Path):
    # Class 4 is not ranked by A at all, class 0 loses one of its three segments.
    a, b = one_hot(*A), one_hot(*B)
    a[:, 4] = -np.inf
    b[4, 0] = -np.inf
    found = compare(
        kitchen,
        [save(kitchen, tmp_path / "a", a)],
        [save(kitchen, tmp_path / "b", b)],
        config=QUICK,
    )
    gained, lost = found.gained(), found.lost()
    assert [(c.name, c.n, c.a, c.b, c.many_shot) for c in gained] == [
        ("take pan", 1, 0, 100, False)
    ]
    assert [(c.name, c.n, c.many_shot) for c in lost] == [("take cup", 3, True)]
    assert lost[0].gain == pytest.approx(-100 / 3)
    actions = [c for c in found.classes if c.kind == "action"]
    assert [c.id for c in actions] == [4, 1, 2, 3, 0]
    assert sum(c.n for c in actions) == 8
    assert {c.teacher for c in found.buckets[0].cells} == {"absent"}


def test_seeds_are_paired_and_averaged(kitchen: Store, tmp_path: Path):
    a = [save(kitchen, tmp_path / f"a{i}", one_hot(*A)) for i in range(2)]
    b = [save(kitchen, tmp_path / "b0", one_hot(*B)), save(kitchen, tmp_path / "b1", one_hot(*A))]
    found = compare(kitchen, a, b, config=QUICK)
    top1 = found.metrics["action/top1"]
    assert top1.b == (62.5, 37.5)
    assert top1.difference.value == 12.5
    assert top1.deviation == pytest.approx(25 / np.sqrt(2))
    cell = found.buckets[0].cell("absent", "fixed")
    assert cell.count == 1.5
    assert {e.seeds for e in cell.examples} == {1}
    # Which seed is drawn is part of the chance: the interval is wider than of two equal ones.
    same = compare(kitchen, a, [b[0], str(tmp_path / "b0")], config=QUICK)
    assert same.metrics["action/top1"].deviation == 0


def test_equal_systems_do_not_differ(kitchen: Store, tmp_path: Path):
    a = save(kitchen, tmp_path / "a", one_hot(*A))
    found = compare(kitchen, [a], [a], config=QUICK)
    for change in found.metrics.values():
        assert change.difference.value == change.difference.low == change.difference.high == 0
        assert change.difference.p_value == 1
    assert not found.gained()
    assert not found.lost()


def test_segments_without_prediction_are_wrong(kitchen: Store, tmp_path: Path):
    a = save(kitchen, tmp_path / "a", one_hot(*A))
    b = save(kitchen, tmp_path / "b", one_hot(0, 0), ["s1", "s0"])
    found = compare(kitchen, [a], [b], config=QUICK)
    assert found.unpredicted == {a: 0, b: 6}
    assert found.metrics["action/top1"].b == (25,)
    assert found.buckets[0].cell("absent", "broken").count == 2
    assert {e.b for e in found.buckets[0].cell("absent", "broken").examples} == {None}
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["unpredicted"][b] == 6


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), swap=st.booleans())
def test_swapping_turns_every_sign(tmp_path_factory, seed: int, swap: bool):
    folder = tmp_path_factory.mktemp("swap")
    rng = np.random.default_rng(seed)
    taxonomy = Taxonomy(
        dataset="t",
        verbs=("a",),
        nouns=tuple("abcdefgh"),
        actions=tuple("abcdefgh"),
        action_verbs=(0,) * 8,
        action_nouns=tuple(range(8)),
    )
    action = rng.integers(0, 8, 12)
    store = Store.create(folder / "store")
    segments = Segments.of(
        uid=[f"s{i}" for i in range(12)],
        video=[f"v{i // 3}" for i in range(12)],
        start_s=np.arange(12) + 5.0,
        stop_s=np.arange(12) + 6.0,
        verb=np.zeros(12),
        noun=action,
        action=action,
    )
    store.write_labels("validation", segments, taxonomy, source="test")
    names = []
    for name in "ab":
        scores = rng.standard_normal((12, 8)).astype(np.float32)
        uid = segments.uid
        Predictions(uid=uid, scores=scores, split="validation", taxonomy=taxonomy.fingerprint).save(
            folder / name
        )
        names.append(str(folder / name))
    one = compare(store, names[:1], names[1:], config=QUICK)
    two = compare(store, names[1:], names[:1], config=QUICK)
    for name, change in one.metrics.items():
        other = two.metrics[name].difference
        assert change.difference.value == pytest.approx(-other.value)
        assert change.difference.low == pytest.approx(-other.high, abs=1e-4)
        assert change.difference.p_value == pytest.approx(other.p_value)
    for buckets, turned in zip(one.buckets, two.buckets, strict=True):
        assert sum(c.count for c in buckets.cells) == 12
        assert buckets.cell("absent", "fixed").count == turned.cell("absent", "broken").count
    assert [c.id for c in one.gained()] == [c.id for c in two.lost()]


def test_refusals(kitchen: Store, tmp_path: Path):
    a = save(kitchen, tmp_path / "a", one_hot(*A))
    b = save(kitchen, tmp_path / "b", one_hot(0), ["other"])
    with pytest.raises(BadConfig, match="as many runs in each"):
        compare(kitchen, [a], [a, a])
    with pytest.raises(BadConfig, match="as many runs"):
        compare(kitchen, [], [])
    with pytest.raises(FingerprintMismatch, match="the first one other"):
        compare(kitchen, [a], [b], config=QUICK)
    with pytest.raises(FingerprintMismatch, match="another split"):
        compare(kitchen, [a], [a], split="train", config=QUICK)
    with pytest.raises(NotFound, match="/no"):
        compare(kitchen, [a], [str(tmp_path / "no")], config=QUICK)
    with pytest.raises(BadConfig, match="all or rulstm or avt"):
        compare(kitchen, [a], [a], config=CompareConfig(over="none"))
    unseen = CompareConfig(over="unseen", sampling=BootstrapConfig(resamples=50))
    with pytest.raises(BadConfig, match=r"nobody says which participants are unseen: .*small"):
        compare(kitchen, [a], [a], config=unseen)
    for wrong, words in (
        ({"ks": ()}, "no ks: expected one or more"),
        ({"ks": (0,)}, r"impossible ks\[0\]: .*found 0"),
        ({"examples": -1}, "impossible examples: .*found -1"),
        (
            {"sampling": BootstrapConfig(resamples=0)},
            "needs resamples: expected 2 or more, found 0",
        ),
    ):
        with pytest.raises(BadConfig, match=words):
            CompareConfig(**wrong)


def test_segments_that_count(tmp_path: Path, taxonomy: Taxonomy):
    """All begin too early to be seen with the dataset's window: none counts under AVT's rule."""
    segments = Segments.of(
        uid=["a", "b"],
        video=["v", "w"],
        start_s=[0.0, 0.2],
        stop_s=[1.0, 1.0],
        verb=[0, 1],
        noun=[0, 2],
        action=[0, 3],
    )
    store = Store.create(tmp_path / "early")
    store.write_labels("validation", segments, taxonomy, source="test")
    run = save(store, tmp_path / "p", one_hot(0, 3), ["a", "b"])
    with pytest.raises(BadConfig, match="validation: no segment counts: found over avt"):
        compare(store, [run], [run], config=CompareConfig(sampling=BootstrapConfig(resamples=5)))
    found = compare(store, [run], [run], config=QUICK)
    assert found.metrics["action/top1"].a == (100,)
    # A list of classes of which none is among the segments has no metric.
    alone = replace(taxonomy, many_shot_actions=(4,))
    other = Store.create(tmp_path / "other")
    other.write_labels("validation", segments, alone, source="test")
    run = save(other, tmp_path / "q", one_hot(0, 3), ["a", "b"])
    metrics = compare(other, [run], [run], config=QUICK).metrics
    assert "action/many_shot_recall@5" not in metrics
    assert "action/any_shot_recall@5" in metrics


def test_command(kitchen: Store, tmp_path: Path):
    a, b = save(kitchen, tmp_path / "a", one_hot(*A)), save(kitchen, tmp_path / "b", one_hot(*B))
    quick = ["--over", "all", "--bootstrap", "20"]

    def run(*arguments: str):
        return CliRunner().invoke(command, [str(kitchen.path), *arguments, *quick])

    shown = run(a, b, "--teacher", a)
    assert shown.exit_code == 0, shown.output
    for words in ("8 segments of 'validation' (all)", "action/top1", "fixed: s", "both wrong"):
        assert words in shown.output
    said = json.loads(run("--a", a, "--a", b, "--b", b, "--b", b, "--json").stdout)
    assert said["metrics"]["action/top1"]["difference"]["value"] == 12.5
    assert "deviation" in run("--a", a, "--a", b, "--b", b, "--b", b).output
    for arguments, words in (
        ((a,), "which systems"),
        ((), "which systems"),
        ((a, b, "--a", a), "which systems"),
        (("--a", a, "--b", a, "--b", b), "paired by order"),
        ((a, "targets/absent"), "absent"),
        ((a, b, "--ks", "0"), "impossible --ks"),
        ((a, b, "--seed", "-1"), "impossible --seed"),
    ):
        outcome = run(*arguments)
        assert outcome.exit_code != 0
        assert words in str(outcome.exception), arguments
