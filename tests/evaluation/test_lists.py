"""Unseen participants and tail classes: the definition of the challenge, and the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.annotations import Segments, Taxonomy
from antcache.cli.evaluation.evaluate import evaluate as command
from antcache.errors import BadConfig
from antcache.evaluation import Predictions
from antcache.evaluation.comparing.compare import CompareConfig, compare
from antcache.evaluation.lists import ListFiles, unseen_participants
from antcache.evaluation.metrics import verb_noun_marginals
from antcache.evaluation.scoring import Detail, score_predictions
from antcache.evaluation.sheet import BootstrapConfig
from antcache.store import Store

TAIL_VERBS, TAIL_NOUNS = (1, 7), (1, 3)
CLASSES = Taxonomy(
    dataset="epic-kitchens-100",
    verbs=tuple(f"v{i}" for i in range(8)),
    nouns=tuple(f"n{i}" for i in range(9)),
    actions=tuple(f"a{i}" for i in range(24)),
    action_verbs=tuple(i % 8 for i in range(24)),
    action_nouns=tuple(i % 9 for i in range(24)),
)
VIDEOS = ("P01_01", "P18_02", "P32_101", "P01_102")


def make_segments(count, videos, seed):
    action = np.random.default_rng(seed).integers(0, 24, count)
    return Segments.of(
        uid=[f"{videos[i % len(videos)]}_{i}" for i in range(count)],
        video=[videos[i % len(videos)] for i in range(count)],
        start_s=np.arange(count) + 5.0,
        stop_s=np.arange(count) + 6.0,
        verb=CLASSES.verb_of[action],
        noun=CLASSES.noun_of[action],
        action=action,
    )


@pytest.fixture
def kitchen(tmp_path):
    store = Store.create(tmp_path / "kitchen")
    validation = make_segments(60, VIDEOS, 0)
    store.write_labels("validation", validation, CLASSES, source="test")
    store.write_labels("train", make_segments(9, ("P01_03",), 1), CLASSES, source="test")
    scores = np.random.default_rng(2).standard_normal((60, 24)).astype(np.float32)
    Predictions(
        uid=validation.uid, scores=scores, split="validation", taxonomy=CLASSES.fingerprint
    ).save(tmp_path / "p")
    return store, scores, validation


@pytest.fixture
def files(tmp_path):
    written = {
        "unseen": "participant_id\nP18\nP32\n",
        "tail_verbs": "verb\n1\n7\n",
        "tail_nouns": "noun\n1\n3\n",
    }
    for name, text in written.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return ListFiles(**{name: tmp_path / f"{name}.csv" for name in written})


def mean_top5_recall(scores, labels):
    """As the challenge computes it: classes that are present, each by its own segments."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    hits = (best == labels[:, None]).any(axis=1)
    return 100 * np.mean([hits[labels == c].mean() for c in np.unique(labels)])


def test_figures_are_those_of_the_challenge(kitchen, files, tmp_path):
    store, scores, segments = kitchen
    result = score_predictions(store, tmp_path / "p", detail=Detail(files=files))
    assert result.sheet is not None
    found = result.sheet.counted
    everyone = np.ones(60, dtype=bool)
    unseen = np.array([video[:3] in ("P18", "P32") for video in segments.video])
    assert found["unseen"].n == unseen.sum() == 30
    tail = {"verb": np.isin(segments.verb, TAIL_VERBS), "noun": np.isin(segments.noun, TAIL_NOUNS)}
    tail["action"] = tail["verb"] | tail["noun"]
    verbs, nouns = verb_noun_marginals(scores, CLASSES)
    for kind, own in (("verb", verbs), ("noun", nouns), ("action", scores)):
        labels = getattr(segments, kind)
        for mask, part, name in (
            (everyone, "all", f"{kind}/recall@5"),
            (unseen, "unseen", f"{kind}/recall@5"),
            (tail[kind], "all", f"{kind}/tail_recall@5"),
        ):
            expected = mean_top5_recall(own[mask], labels[mask])
            assert 0 < expected < 100
            assert found[part].metrics[name] == pytest.approx(expected)


def test_unseen_participants_are_those_without_training_video(kitchen, files, store):
    made = kitchen[0]
    assert unseen_participants(made, CLASSES, "validation", ListFiles()) == ("P18", "P32")
    assert unseen_participants(made, CLASSES, "validation", files) == ("P18", "P32")
    assert unseen_participants(made, CLASSES, "train", ListFiles()) is None
    assert unseen_participants(store, store.taxonomy, "validation", ListFiles()) is None


def test_comparison_over_unseen_participants(kitchen, store, tmp_path):
    made, scores, segments = kitchen
    names = {"split": "validation", "taxonomy": CLASSES.fingerprint}
    Predictions(uid=segments.uid, scores=scores[::-1].copy(), **names).save(tmp_path / "b")
    config = CompareConfig(over="unseen", sampling=BootstrapConfig(resamples=20))
    found = compare(made, [str(tmp_path / "p")], [str(tmp_path / "b")], config=config)
    unseen = np.array([video[:3] in ("P18", "P32") for video in segments.video])
    assert found.n == unseen.sum() == 30
    expected = mean_top5_recall(scores[unseen], segments.action[unseen])
    assert found.metrics["action/recall@5"].mean_a == pytest.approx(expected)
    uid = store.labels("validation").uid
    other = np.zeros((len(uid), len(store.taxonomy.actions)), dtype=np.float32)
    Predictions(
        uid=uid, scores=other, split="validation", taxonomy=store.taxonomy.fingerprint
    ).save(tmp_path / "other")
    with pytest.raises(BadConfig, match="which participants are unseen"):
        compare(store, [str(tmp_path / "other")], [str(tmp_path / "other")], config=config)


def test_command(kitchen, files, tmp_path):
    store = kitchen[0]
    options = ["--tail-verbs", str(files.tail_verbs), "--tail-nouns", str(files.tail_nouns)]
    arguments = [str(store.path), str(tmp_path / "p"), *options, "--bootstrap", "30"]
    (said,) = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).stdout)
    for name in ("all", "rulstm", "avt", "unseen"):
        part = said["denominators"][name]
        assert set(part["intervals"]) == set(part["metrics"]) - {"n"}
    interval = said["denominators"]["unseen"]["intervals"]["action/top1"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert 0 < said["scored"]["verb/tail_recall@5"] < 100
    table = CliRunner().invoke(command, arguments)
    assert table.exit_code == 0, table.output
    for words in ("unseen participants", "95% intervals by video", "tail_recall@5", "NLL"):
        assert words in table.output
    for wrong, words in (
        (["--bootstrap", "1"], "impossible resamples: expected 0, or 2 and more"),
        (["--bootstrap", "10", "--seed", "-1"], "impossible --seed"),
        (["--cluster", "kitchen"], "'kitchen' is not one of 'video', 'segment'"),
        (["--tail-verbs", str(files.tail_verbs)], "go together"),
        (["--unseen", str(tmp_path / "absent")], "can't be read"),
        (["--unseen", str(files.tail_verbs)], "lacks participant_id"),
    ):
        outcome = CliRunner().invoke(command, [str(store.path), str(tmp_path / "p"), *wrong])
        assert words in f"{outcome.output}{outcome.exception}", wrong
    (tmp_path / "unseen.csv").write_text("participant_id\nP99\n")
    with pytest.raises(BadConfig, match="no video of 'validation'"):
        unseen_participants(store, store.taxonomy, "validation", files)


def test_without_a_bootstrap_the_sheet_has_no_intervals(kitchen, tmp_path):
    detail = Detail(sampling=BootstrapConfig(resamples=0))
    sheet = score_predictions(kitchen[0], tmp_path / "p", detail=detail).sheet
    assert sheet is not None
    assert not any(part.intervals for part in sheet.counted.values())
