"""Actions that are single labels, from store to report: no verb and noun is made up or reported.

One store goes through every command; what asks for verbs and nouns is refused in one line.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tiny_kitchen import CLASSES, DIM, FPS, tiny_split, write_features

from antcache.annotations import Segments, Taxonomy
from antcache.api import Store as Front
from antcache.cli.main import cli
from antcache.errors import BadAnnotations, BadConfig, FingerprintMismatch
from antcache.evaluation.metrics import score
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.present import Present
from antcache.store import Store
from antcache.store.integrity.verify import verify
from antcache.student.config import StudentConfig
from antcache.student.heads.head import ModelShape
from antcache.student.model import build_student
from antcache.teacher.language.text import action_texts
from antcache.teacher.noise import corrupt, noise_kinds

SINGLE = Taxonomy(
    dataset="salads",
    verbs=(),
    nouns=(),
    actions=("cut_tomato", "place_tomato_into_bowl", "peel", "mix", "add_oil", "serve-it"),
    action_verbs=(),
    action_nouns=(),
    many_shot_actions=(0, 1, 2),
)
STUDENT = ["--layers", "1", "--heads", "2", "--width", "16", "--epochs", "1", "--device", "cpu"]


def single(segments: Segments) -> Segments:
    none = np.full(len(segments), -1)
    return replace(segments, verb=none, noun=none)


def write(path: Path, backend: str) -> Store:
    rng = np.random.default_rng(1)
    store = Store.create(path, backend=backend)
    directions = rng.standard_normal((CLASSES, DIM))
    store.create_stream("rgb", dim=DIM, dtype="float16", fps=FPS, source="made up", config={})
    splits = {}
    for split, videos in (("train", 6), ("validation", 3)):
        splits[split] = single(tiny_split(split[0], videos, 8, rng))
        write_features(store, splits[split], directions, seed=videos)
    store.write_splits(splits, SINGLE, source="made up")
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write(tmp_path / "store", "zarr")


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def said(*args: object) -> dict[str, object]:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    return found[0] if isinstance(found, list) else found


def kinds_in(found: object) -> set[str]:
    """Of every metric anywhere in what a command said."""
    if isinstance(found, dict):
        keys = {key.partition("/")[0] for key in found if "/" in str(key) and "top" in str(key)}
        return keys.union(*map(kinds_in, found.values()))
    return set().union(*map(kinds_in, found)) if isinstance(found, list) else set()


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_a_store_keeps_them_as_they_are(tmp_path: Path, backend: str) -> None:
    store = write(tmp_path / "store", backend)
    there = Store.open(store.path)
    assert there.taxonomy == SINGLE
    assert (there.taxonomy.paired, there.taxonomy.kinds) == (False, ("action",))
    assert there.taxonomy.counts == "6 actions"
    assert set(there.labels("train").verb.tolist()) == {-1}
    assert verify(there).intact
    wrong = replace(there.labels("train"), verb=np.zeros(48, dtype=np.int64))
    with pytest.raises(BadAnnotations, match=r"another verb or noun.*expected none \(-1\)"):
        wrong.check(SINGLE, str)
    with pytest.raises(BadAnnotations, match="each action needs one verb and one noun, or none"):
        replace(SINGLE, verbs=("cut",), nouns=("tomato",))
    with pytest.raises(BadAnnotations, match=r"unknown tail verb id.*none: there is no tail verb"):
        replace(SINGLE, tail_verbs=(0,), tail_nouns=())


def test_every_command_speaks_of_actions_alone(store: Store, tmp_path: Path) -> None:
    path = store.path
    taught = {
        kind: said(
            "teacher", "train", path, "--kind", kind, "--name", kind, "-o", tmp_path / kind, *more
        )
        for kind, more in (
            ("count", ["--set", "times=true"]),
            ("sequence", ["--epochs", "1", "--set", "width=16"]),
        )
    }
    runs = [tmp_path / name for name in ("plain", "taught")]
    trained = [
        said("student", "train", path, "--run", runs[0], *STUDENT, "--held-out", "0.3"),
        said("student", "train", path, "--run", runs[1], *STUDENT, "--targets", "count,sequence"),
    ]
    scored = [
        said("evaluate", path, runs[0], "--bootstrap", 20),
        said("evaluate", path, runs[1], "--classes", "present"),
        said("teacher", "score", path, tmp_path / "count", "--noise", "0.5", "--bootstrap", 0),
        said("compare", path, *runs, "--bootstrap", 20),
    ]
    result = run("report", path, *runs, "--bootstrap", 20, "-o", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert kinds_in([taught, trained, scored]) == {"action"}
    assert "NaN" not in json.dumps([taught, trained, scored])
    for kept in ("verb", "noun"):
        assert kept not in (tmp_path / "page.html").read_text("utf-8")
    report = json.dumps(scored[2])
    assert "uniform" in report
    assert "confused" not in report


def test_the_metrics_are_those_of_actions_that_are_pairs(store: Store) -> None:
    segments, rng = store.labels("validation"), np.random.default_rng(0)
    scores = rng.standard_normal((len(segments), CLASSES)).astype(np.float32)
    paired = replace(
        SINGLE,
        verbs=("do",),
        nouns=SINGLE.actions,
        action_verbs=(0,) * CLASSES,
        action_nouns=tuple(range(CLASSES)),
    )
    labels = replace(segments, verb=np.zeros_like(segments.verb), noun=segments.action)
    beside = {
        k: v for k, v in score(scores, labels, paired).items() if k[:4] not in ("verb", "noun")
    }
    assert score(scores, segments, SINGLE) == beside
    assert Present.of(store, "validation").occurs.keys() == {"action"}


def test_what_needs_verbs_and_nouns_is_refused(store: Store, tmp_path: Path) -> None:
    uid = store.labels("validation").uid
    scores = np.zeros((len(uid), CLASSES), dtype=np.float32)
    own = Predictions(
        uid=uid,
        split="validation",
        scores=scores,
        verb_scores=scores[:, :2],
        noun_scores=scores[:, :3],
        taxonomy=SINGLE.fingerprint,
    )
    with pytest.raises(BadConfig, match="verb and noun scores for actions without"):
        own.check_taxonomy(SINGLE)
    with pytest.raises(BadConfig, match="verb and noun scores for actions without"):
        Front.open(store.path).predictions("validation", uid, scores, verb_scores=scores)
    with pytest.raises(BadConfig, match="verb and noun scores for actions without"):
        score(scores, store.labels("validation"), SINGLE, verb_noun_scores=(scores, scores))
    with pytest.raises(BadConfig, match="expected uniform"):
        corrupt(store.labels("train").action, SINGLE, 0.5, kind="confused")
    assert noise_kinds(SINGLE) == ("uniform",)
    shape = ModelShape(dims=(DIM,), num_classes=CLASSES, num_frames=10)
    with pytest.raises(BadConfig, match="`verb_noun_weight` asks for classifiers"):
        build_student(StudentConfig.of(verb_noun_weight=1.0), shape)
    saved = tmp_path / "one.safetensors"
    replace(own, verb_scores=None, noun_scores=None).save(saved)
    for args, words in (
        (
            ["student", "train", store.path, "--run", tmp_path / "x", "--verb-noun-weight", 1],
            "--verb-noun-weight asks for classifiers of verbs and nouns",
        ),
        (
            ["evaluate", store.path, saved, "--tail-verbs", saved, "--tail-nouns", saved],
            "tail verbs and tail nouns for actions without verb and noun",
        ),
        (
            ["fuse", store.path, saved, saved, "-o", tmp_path / "y", "--weights", "apart"],
            "'apart' are for actions of verb and noun",
        ),
    ):
        result = run(*args)
        assert result.exit_code == 2, result.output
        assert words in " ".join(result.stderr.split())
        assert not result.stderr.count("Traceback")


def test_language_teachers_read_the_labels_as_they_stand() -> None:
    assert action_texts(SINGLE, "paper")[:2] == ["cut tomato", "place tomato into bowl"]
    assert action_texts(SINGLE, "natural")[-1] == "serve it"


def test_other_classes_are_another_taxonomy(store: Store) -> None:
    other = replace(SINGLE, actions=(*SINGLE.actions[:-1], "serve"))
    segments = store.labels("train")
    with pytest.raises(FingerprintMismatch, match=r"expected 6 actions \("):
        store.write_labels("train", segments, other, source="")
