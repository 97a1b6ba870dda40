"""Scoring among the classes that occur: against the published code's rule, and by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

from antcache.annotations import Segments, Taxonomy, read_annotations
from antcache.cli.main import cli
from antcache.errors import BadConfig, MissingKey
from antcache.evaluation import EvaluationResult, Predictions, evaluate, score_targets
from antcache.evaluation.comparing.compare import CompareConfig, compare
from antcache.evaluation.present import PRESENT, Present
from antcache.evaluation.scoring import Detail, target_predictions
from antcache.evaluation.sheet import BootstrapConfig
from antcache.store import SoftTargets, Store

DETAIL = Detail(classes=PRESENT)
VERBS, NOUNS = 6, 9
PAIRS = [(v, n) for v in range(VERBS) for n in range(NOUNS) if (v + 2 * n) % 3]


def labelled(split: str, action: np.ndarray) -> Segments:
    verb, noun = np.array(PAIRS)[action].T
    start = 10.0 + 2 * np.arange(len(action))
    return Segments.of(
        uid=[f"{split}{i}" for i in range(len(action))],
        video=[f"{split}-{i // 5}" for i in range(len(action))],
        start_s=start,
        stop_s=start + 1,
        verb=verb,
        noun=noun,
        action=action,
    )


@pytest.fixture
def kitchen(tmp_path: Path) -> Store:
    """A validation split that lacks many classes, and has some that no training segment has."""
    rng = np.random.default_rng(0)
    taxonomy = Taxonomy(
        dataset="own",
        verbs=tuple(f"v{i}" for i in range(VERBS)),
        nouns=tuple(f"n{i}" for i in range(NOUNS)),
        actions=tuple(f"v{v} n{n}" for v, n in PAIRS),
        action_verbs=tuple(v for v, _ in PAIRS),
        action_nouns=tuple(n for _, n in PAIRS),
    )
    store = Store.create(tmp_path / "store")
    known, asked = np.arange(0, 22), rng.choice(np.arange(12, 30, 2), 60)
    store.write_labels("train", labelled("t", known), taxonomy, source="made up")
    store.write_labels("validation", labelled("s", asked), taxonomy, source="made up")
    return store


def predicted(store: Store, seed: int, *, own: bool = True) -> Predictions:
    rng, labels = np.random.default_rng(seed), store.labels("validation")
    sizes = {"scores": len(PAIRS)} | ({"verb_scores": VERBS, "noun_scores": NOUNS} if own else {})
    scores = {k: rng.normal(size=(len(labels), n)).astype(np.float32) for k, n in sizes.items()}
    scores["scores"][np.arange(len(labels)), labels.action] += 1
    return Predictions(
        uid=labels.uid, split="validation", taxonomy=store.taxonomy.fingerprint, **scores
    )


def published(store: Store, found: Predictions) -> dict[str, tuple[float, float]]:
    """Class-mean recall@5 and top-5 accuracy by kind, step by step as V-JEPA 2 has them.

    Its rule: pairs that are not trained on are taken out, the valid classes are those of the rest,
    the scores are sigmoids, those of other classes are 0, and the five highest are the guess.
    """
    train, rest = store.labels("train"), store.labels("validation")
    trained = set(zip(train.verb.tolist(), train.noun.tolist(), strict=True))
    kept = [p in trained for p in zip(rest.verb.tolist(), rest.noun.tolist(), strict=True)]
    rest = rest[np.array(kept)]
    figures = {}
    for kind, name in (("action", "scores"), ("verb", "verb_scores"), ("noun", "noun_scores")):
        labels = torch.from_numpy(getattr(rest, kind))
        probability = torch.sigmoid(torch.from_numpy(getattr(found, name)[kept]))
        valid = torch.zeros_like(probability)
        for c in set(labels.tolist()):
            valid[:, c] = probability[:, c]
        best = valid.topk(5, dim=1).indices
        hit = (best == labels[:, None]).any(dim=1).double()
        size = probability.shape[1]
        hits = torch.zeros(size, dtype=torch.double).index_add_(0, labels, hit)
        count = F.one_hot(labels, size).sum(dim=0)
        recall = (hits / count)[count > 0].mean()
        figures[kind] = (100 * float(recall), 100 * float(hit.mean()))
    return figures


def scored(store: Store, found: Predictions, detail: Detail = DETAIL) -> EvaluationResult:
    return evaluate(store, found, "p", detail=detail)


@pytest.mark.parametrize("seed", range(5))
def test_it_measures_what_the_published_code_measures(kitchen: Store, seed: int) -> None:
    found = predicted(kitchen, seed)
    result = scored(kitchen, found)
    for kind, (recall, accuracy) in published(kitchen, found).items():
        assert result.scored[f"{kind}/recall@5"] == pytest.approx(recall)
        assert result.scored[f"{kind}/top5"] == pytest.approx(accuracy)
    usual = scored(kitchen, found, Detail())
    assert result.scored["action/recall@5"] > usual.scored["action/recall@5"]
    assert (usual.scored_classes, usual.left_out, usual.scored["n"]) == ("all", 0, 60)
    assert result.scored_classes == "present"
    assert result.scored["n"] + result.left_out == 60
    assert result.left_out > 0


def test_the_figures_of_the_documentation(data_dir: Path, tmp_path: Path) -> None:
    """What is left of EPIC-KITCHENS-100's validation split, as docs/protocol.md has it."""
    ek100 = read_annotations("epic-kitchens-100", data_dir / "epic-kitchens-100/rulstm")
    store = Store.create(tmp_path / "ek100")
    for split, segments in ek100.splits.items():
        store.write_labels(split, segments, ek100.taxonomy, source="test")
    present, asked = Present.of(store, "validation"), ek100.splits["validation"]
    counts = {kind: f"{own.sum():,} of {len(own):,} {kind}" for kind, own in present.occurs.items()}
    said = [f"{present.kept.sum():,} of {len(asked):,} segments", *counts.values()]
    said.append(f"{100 * np.mean(asked.stop_s - 1 > asked.start_s):.0f} % of these actions")
    page = (Path(__file__).parents[2] / "docs/protocol.md").read_text("utf-8")
    assert [words for words in said if words not in page] == []


def test_by_hand(store: Store, taxonomy: Taxonomy) -> None:
    """Of a, b (action 0) and c, d (2, 3) only the pair of action 0 has a training segment."""
    scores = np.zeros((4, 5), dtype=np.float32)
    scores[:, 1] = 9  # take knife, which is nowhere the truth
    scores[1, 0] = 5
    found = Predictions(
        uid=np.array(["a", "b", "c", "d"]),
        scores=scores,
        split="validation",
        taxonomy=taxonomy.fingerprint,
    )
    result = scored(store, found)
    assert (result.scored["n"], result.left_out) == (2, 2)
    assert {result.scored[f"{k}/top1"] for k in ("action", "verb", "noun")} == {100.0}
    assert evaluate(store, found, "p").scored["action/top1"] == 0
    counted = result.sheet.counted if result.sheet else {}
    assert counted["all"].n == 2
    assert result.sheet is not None
    assert result.sheet.calibration.n == 2
    assert result.sheet.calibration.confidence == 100


def test_verbs_of_a_model_without_classifiers_are_those_of_its_actions(kitchen: Store) -> None:
    """Of the actions that occur alone: a verb that does not occur has probability 0."""
    found = predicted(kitchen, 0, own=False)
    present = Present.of(kitchen, "validation")
    rows = present.rows(found)
    p = np.exp(np.where(present.occurs["action"], found.scores[rows], -np.inf).astype(np.float64))
    verbs = np.stack([p[:, kitchen.taxonomy.verb_of == v].sum(axis=1) for v in range(VERBS)], 1)
    truth = kitchen.labels("validation")[present.kept].verb
    right = 100 * float((verbs.argmax(axis=1) == truth).mean())
    assert scored(kitchen, found).scored["verb/top1"] == pytest.approx(right)


def test_nothing_changes_where_every_class_occurs_and_is_trained_on(kitchen: Store) -> None:
    every = np.arange(len(PAIRS))
    for split in ("train", "validation"):
        kitchen.write_labels(
            split, labelled(split[0], every), kitchen.taxonomy, source="made up", overwrite=True
        )
    found = predicted(kitchen, 1)
    assert scored(kitchen, found).scored == scored(kitchen, found, Detail()).scored


def test_targets_cut_to_their_best_classes(kitchen: Store) -> None:
    """A segment of which no class that occurs is ranked is wrong; it stays, and is counted."""
    full = predicted(kitchen, 2, own=False)
    present = Present.of(kitchen, "validation")
    absent, hopeless = ~present.occurs["action"], int(np.argmax(present.kept))
    scores = full.scores.copy()
    scores[hopeless, absent] += 50
    targets = SoftTargets(
        uid=full.uid,
        valid=np.ones(60, dtype=bool),
        logits=scores.astype(np.float32),
        attributes={"taxonomy": kitchen.taxonomy.fingerprint},
    )
    kitchen.write_targets("few", targets.top_k(3))
    result = score_targets(kitchen, "few", "validation", detail=DETAIL)
    assert result.scored["n"] + result.left_out == 60
    few = target_predictions(kitchen, "few", "validation")
    assert np.isneginf(few.scores[hopeless, ~absent]).all()
    ranked = present.only(few).scores[present.kept[:hopeless].sum()]
    assert np.isneginf(ranked[~absent]).all()
    whole = score_targets(kitchen, "few", "validation", detail=Detail())
    assert result.scored["action/top1"] > whole.scored["action/top1"]


def test_what_it_needs_is_said(kitchen: Store, tmp_path: Path) -> None:
    found = predicted(kitchen, 0)
    other = labelled("t", np.arange(1, 12, 2))
    kitchen.write_labels("train", other, kitchen.taxonomy, source="x", overwrite=True)
    with pytest.raises(BadConfig, match="no segment has a verb and noun of the training split"):
        scored(kitchen, found)
    kitchen.remove("labels/train")
    with pytest.raises(MissingKey, match=r"trained on together.*a split 'train' beside"):
        scored(kitchen, found)


def test_both_systems_are_compared_among_the_same_classes(kitchen: Store, tmp_path: Path) -> None:
    names = []
    for seed in range(2):
        predicted(kitchen, seed).save(tmp_path / f"p{seed}")
        names.append(str(tmp_path / f"p{seed}"))
    sampling = BootstrapConfig(resamples=10)
    config = CompareConfig(over="all", classes=PRESENT, sampling=sampling)
    found = compare(kitchen, names[:1], names[1:], config=config)
    for name, change in found.metrics.items():
        alone = [scored(kitchen, predicted(kitchen, seed)).scored[name] for seed in range(2)]
        assert [*change.a, *change.b] == alone
    said = found.to_dict()
    assert (said["scored_classes"], said["left_out"], said["n"]) == (
        *("present", found.left_out, 60 - found.left_out),
    )
    assert "classes that do not occur never win" in found.notes[0]
    occurs = Present.of(kitchen, "validation").occurs["action"]
    assert occurs[found.a[0].guess].all()
    usual = compare(kitchen, names[:1], names[1:], config=replace(config, classes="all"))
    assert usual.left_out == 0
    assert not any("never win" in note for note in usual.notes)


def test_commands_say_it(kitchen: Store, tmp_path: Path) -> None:
    for seed in range(2):
        predicted(kitchen, seed).save(tmp_path / f"p{seed}")
    paths = [str(kitchen.path), str(tmp_path / "p0"), str(tmp_path / "p1")]
    given = ["--classes", "present"]
    result = scored(kitchen, predicted(kitchen, 0))

    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, list(words))
        assert done.exit_code == 0, done.output
        return " ".join(done.stdout.split())

    said = json.loads(run("evaluate", *paths, *given, "--json"))[0]
    assert said["scored"] == result.scored
    assert (said["scored_classes"], said["left_out"]) == ("present", result.left_out)
    text = run("evaluate", *paths, *given)
    assert f"{result.left_out} segments left out" in text
    assert "Not to be put beside figures of the usual task: classes that do not occur" in text
    assert "Not to be put beside" not in run("evaluate", *paths)
    few = ("--bootstrap", "10", "--over", "all")
    assert "present classes" in run("compare", *paths, *given, *few)
    assert "all classes" in run("compare", *paths, *few)
    page = tmp_path / "page.html"
    run("report", *paths, *given, *few, "-o", str(page))
    assert f"{result.left_out} segments are left out" in page.read_text("utf-8")
