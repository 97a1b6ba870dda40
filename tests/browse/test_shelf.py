"""The documents say what the store and the runs say; what is damaged says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsed_kitchen import HOSTILE, kitchen_segments, kitchen_taxonomy, scores_of, write_run
from scipy.special import softmax

from antcache.browse import Shelf
from antcache.browse.guesses import BEYOND, NOTHING
from antcache.browse.scores import FileOfScores
from antcache.errors import (
    BadCheckpoint,
    BadPredictions,
    FingerprintMismatch,
    NotFound,
)
from antcache.evaluation import Predictions
from antcache.evaluation.metrics import true_class_ranks
from antcache.evaluation.scoring import score_predictions, score_targets
from antcache.store import Store
from antcache.tensors import read_tensors, write_tensors

RUNS = ("runs/plain", "runs/distilled")


@pytest.fixture(scope="module")
def shelf(browsed: Path) -> Shelf:
    return Shelf(Store.open(browsed / "kitchen.zarr"), runs=[browsed / run for run in RUNS])


@pytest.fixture
def copied(browsed: Path, tmp_path: Path) -> Path:
    """The folder of the kitchen, to be changed."""
    return Path(shutil.copytree(browsed, tmp_path / "kitchen"))


def read(shelf: Shelf, name: str) -> Any:
    found = shelf.document(name)
    assert found.isascii()
    return json.loads(found)


def test_the_list_has_every_video_and_segment(shelf: Shelf, browsed: Path) -> None:
    found = read(shelf, "list")
    store = Store.open(browsed / "kitchen.zarr")
    assert found["videos"] == sorted(store.all_videos())
    assert [sum(own) for own in found["segments"]] == [240, 60]
    assert found["streams"] == {"flow": "1" * 9 + "0", "rgb": "1" * 10, "tokens": "1" + "0" * 9}
    assert [each["kind"] for each in found["systems"]] == ["teacher", "teacher", "run", "run"]
    assert found["problems"] == []
    assert found["window"] == "10 frames at 2 per second, 1 s before the action"
    labels = store.labels("validation")
    assert found["seconds"][8] == round(labels.stop_s[labels.video == "P02_01"].max(), 1)
    verbs = {-1, *store.taxonomy.action_verbs}
    assert all(len(bar) == 40 and set(bar) <= verbs for bar in found["bars"])


def test_a_bar_says_what_is_under_way(shelf: Shelf) -> None:
    catalog, bar = shelf.catalog, read(shelf, "list")["bars"][8]
    rows, end = catalog.rows(8), catalog.seconds(8)
    for place, key in enumerate(bar):
        time = (place + 0.5) / 40 * end
        here = (catalog.start_s[rows] <= time) & (time < catalog.stop_s[rows])
        keys = catalog.keys[catalog.action[rows][here]]
        assert key == (keys[-1] if here.any() else NOTHING)
    assert len(set(bar)) > 3


def test_classes_are_counted_by_video(shelf: Shelf) -> None:
    found = read(shelf, "classes")
    assert found["actions"][:2] == ["take pan", "take cup"]
    assert sum(map(sum, found["counts"])) == 300
    # The name that would turn the direction of writing is written out.
    assert found["actions"][-1] == HOSTILE.replace("\u202e", "\\u202e")
    assert all(63 in here for here in found["here"])


def test_a_video_has_its_segments_in_order_and_its_rows(shelf: Shelf, browsed: Path) -> None:
    found = read(shelf, "video-8")
    labels = Store.open(browsed / "kitchen.zarr").labels("validation")
    own = labels[labels.video == "P02_01"]
    assert found["uid"] == own.uid.tolist()
    assert found["action"] == own.action.tolist()
    np.testing.assert_allclose(found["start"], own.start_s, atol=0.006)
    assert found["split"] == [1] * 30
    flow, rgb, tokens = found["streams"]
    assert flow["spans"] == [[0, 30.0], [52.5, 140.0]]
    assert rgb["spans"] == [[0, 140.0]]
    assert tokens["why"] == "the stream does not have this video"
    assert read(shelf, "video-0")["streams"][2]["of"] == "1x2x2 tokens of 4 numbers, 2 per second"


@pytest.mark.parametrize(("system", "run"), [(2, RUNS[0]), (3, RUNS[1])])
def test_a_run_expects_what_its_file_says(
    shelf: Shelf, browsed: Path, system: int, run: str
) -> None:
    predictions = Predictions.load(browsed / run)
    catalog = shelf.catalog
    for video in (8, 9):
        rows = catalog.rows(video)
        scores = predictions.scores[
            [predictions.uid.tolist().index(uid) for uid in catalog.uid[rows]]
        ]
        found = read(shelf, f"guesses-{system}-{video}")
        assert found["best"] == np.argsort(-scores, axis=1, kind="stable")[:, :5].tolist()
        shares = -np.sort(-softmax(scores.astype(np.float64), axis=1), axis=1)[:, :5]
        np.testing.assert_allclose(found["share"], shares, atol=6e-5)
        assert found["rank"] == true_class_ranks(scores, catalog.action[rows]).tolist()
    assert set(read(shelf, f"guesses-{system}-0")["rank"]) == {NOTHING}


def test_figures_are_those_of_evaluate(shelf: Shelf, browsed: Path) -> None:
    store = Store.open(browsed / "kitchen.zarr")
    results = [score_targets(store, name, "train") for name in ("sequence", "sparse")]
    results += [score_predictions(store, browsed / run) for run in RUNS]
    for system, result in enumerate(results):
        found = read(shelf, f"figures-{system}")
        whole = found["all"]
        assert whole["n"] == result.scored["n"] == sum(found["videos"]["n"])
        for k in (1, 5):
            assert 100 * whole[f"top{k}"] / whole["n"] == pytest.approx(
                result.scored[f"action/top{k}"]
            )
            assert sum(found["videos"][f"top{k}"]) == whole[f"top{k}"]
    assert read(shelf, "figures-1")["all"]["mean"] is None  # a truth beyond the six best
    ranks = [read(shelf, f"guesses-0-{v}")["rank"] for v in range(10)]
    known = [r + 1 for own in ranks for r in own if r >= 0]
    assert read(shelf, "figures-0")["all"]["mean"] == round(float(np.mean(known)), 1)


def test_a_teacher_that_keeps_its_best_has_their_probabilities(shelf: Shelf) -> None:
    """Six of 64 are kept, with the mass of the others: the same as of all, but for lost truths."""
    for video in range(8):
        dense, sparse = (read(shelf, f"guesses-{k}-{video}") for k in (0, 1))
        assert dense["best"] == sparse["best"]
        np.testing.assert_allclose(dense["share"], sparse["share"], atol=2e-4)
        for one, other in zip(dense["rank"], sparse["rank"], strict=True):
            assert other == (one if one < 6 else BEYOND)
        unknown = [n for n in range(30 * video, 30 * video + 30) if n % 11 == 0]
        assert [30 * video + n for n, r in enumerate(dense["rank"]) if r == NOTHING] == unknown


def test_of_equal_scores_the_lower_class_comes_first(browsed: Path, tmp_path: Path) -> None:
    store = Store.open(browsed / "kitchen.zarr")
    segments = store.labels("validation")
    Predictions(
        uid=segments.uid,
        scores=np.zeros((60, 64), np.float32),
        split="validation",
        taxonomy=store.taxonomy.fingerprint,
    ).save(tmp_path / "flat.safetensors")
    shelf = Shelf(store, runs=[tmp_path / "flat.safetensors"])
    found = read(shelf, "guesses-2-8")
    assert found["best"] == [[0, 1, 2, 3, 4]] * 30
    assert found["rank"] == read(shelf, "video-8")["action"]


def test_scores_are_read_in_blocks(
    browsed: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antcache.evaluation.metrics.BLOCK_ROWS", 7)
    monkeypatch.setattr("antcache.evaluation.metrics.blocks.__defaults__", (7,))
    again = Shelf(Store.open(browsed / "kitchen.zarr"), runs=[browsed / RUNS[0]])
    for name in ("guesses-0-3", "guesses-1-3", "guesses-2-8"):
        assert again.document(name) == shelf.document(name)


def test_the_doctor_speaks_of_videos(shelf: Shelf) -> None:
    found = read(shelf, "notes")
    assert not found["ok"]
    absent = [each for each in found["findings"] if each["videos"] == [9] and each["missing"]]
    assert any(each["where"] == "flow, validation" for each in absent)
    lacking = found["lacking"]["flow"]
    assert [v for v, _ in lacking].count(9) == 30
    start = read(shelf, "video-8")["start"]
    assert all(30 < start[s] < 60 for v, s in lacking if v == 8)


def test_every_document_is_there_and_no_other(shelf: Shelf) -> None:
    names = list(shelf.names())
    assert len(names) == len(set(names)) == 3 + 10 + 4 * 11
    assert all("why" not in json.loads(shelf.document(name)) for name in names)
    for name in ("", "video", "video-10", "video--1", "guesses-4-0", "guesses-0-10", "list-1"):
        with pytest.raises(NotFound, match="no such document"):
            shelf.document(name)
    for name in ("../list", "seen-8-30", "video-99999999999", "video-\u0661"):
        with pytest.raises(NotFound, match="no such document"):
            shelf.document(name)


def test_without_pictures_it_says_so(shelf: Shelf) -> None:
    assert "why" in read(shelf, "strip-8")


def damage_split(copied: Path) -> None:
    for file in (copied / "kitchen.zarr/labels/train/action").rglob("c/*"):
        file.write_bytes(file.read_bytes()[::-1])


def damage_stream(copied: Path) -> None:
    (copied / "kitchen.zarr/features/flow/zarr.json").write_text("{}")


def damage_video(copied: Path) -> None:
    (copied / "kitchen.zarr/features/flow/P02_01/zarr.json").write_text("[]")


def damage_targets(copied: Path) -> None:
    for file in (copied / "kitchen.zarr/targets/sequence/logits").rglob("c/*/*"):
        file.write_bytes(file.read_bytes()[::-1])


@pytest.mark.parametrize("damage", [damage_split, damage_stream, damage_video, damage_targets])
def test_what_is_damaged_says_why_and_the_rest_is_shown(
    copied: Path, damage: Callable[[Path], None]
) -> None:
    damage(copied)
    shelf = Shelf(Store.open(copied / "kitchen.zarr"), runs=[copied / RUNS[0]])
    texts = {name: shelf.document(name).decode() for name in shelf.names()}
    where = {damage_split: "labels/train", damage_targets: "targets/sequence"}
    said = [name for name, text in texts.items() if where.get(damage, "features/flow") in text]
    assert said
    if damage is damage_split:
        assert len(read(shelf, "list")["problems"]) == 1
        assert read(shelf, "list")["splits"] == ["validation"]
    if damage is damage_targets:
        assert "why" in json.loads(texts["figures-0"])
        assert "why" not in json.loads(texts["figures-1"])
    assert json.loads(texts["guesses-2-8"])["rank"][0] >= 0
    assert len(json.loads(texts["video-8"])["uid"]) == 30


def test_a_store_without_anything_else(tmp_path: Path) -> None:
    """Labels alone; features alone; nothing at all."""
    store = Store.create(tmp_path / "empty")
    assert read(Shelf(store), "list")["videos"] == []
    assert "no labels" in read(Shelf(store), "list")["problems"][0]
    settings = {"dim": 2, "dtype": "float32", "config": {}, "source": "test"}
    store.create_stream("rgb", fps=1.0, **settings)
    store.write_features("rgb", "v", np.ones((3, 2), np.float32))
    shelf = Shelf(store)
    assert read(shelf, "list")["seconds"] == [0.0]
    assert read(shelf, "video-0")["streams"][0]["spans"] == [[0, 3.0]]
    assert "no labels" in read(shelf, "notes")["why"]
    labels = Store.create(tmp_path / "labels")
    taxonomy = kitchen_taxonomy()
    segments = kitchen_segments(taxonomy, "train", ["w"], np.random.default_rng(0))
    labels.write_labels("train", segments, taxonomy, source="test")
    shelf = Shelf(labels)
    assert all(read(shelf, name) for name in shelf.names())
    assert read(shelf, "video-0")["streams"] == []


def test_actions_may_be_single_labels(tmp_path: Path) -> None:
    none: dict[str, object] = dict.fromkeys(("verbs", "nouns", "action_verbs", "action_nouns"), ())
    taxonomy = kitchen_taxonomy(**none)
    store = Store.create(tmp_path / "store")
    segments = kitchen_segments(taxonomy, "validation", ["v"], np.random.default_rng(0))
    store.write_labels("validation", segments, taxonomy, source="test")
    run = write_run(store, tmp_path / "run.safetensors", 9.0, 0, "validation")
    shelf = Shelf(store, runs=[run])
    assert read(shelf, "classes")["keys"] == list(range(64))
    assert read(shelf, "figures-0")["all"]["top1"] == 30
    assert set(read(shelf, "list")["bars"][0]) <= {-1, *segments.action.tolist()}


def test_a_run_of_a_split_without_labels_is_left_out(copied: Path) -> None:
    store = Store.open(copied / "kitchen.zarr")
    found = replace(Predictions.load(copied / RUNS[0]), split="test")
    found.save(copied / "test.safetensors")
    shelf = Shelf(store, runs=[copied / "test.safetensors", copied / RUNS[0]])
    (left_out,) = shelf.left_out
    assert "predicts the split 'test', of which the store has no labels" in left_out
    assert read(shelf, "list")["problems"] == [left_out]
    assert len(read(shelf, "list")["systems"]) == 3


def test_runs_that_do_not_fit_are_refused(copied: Path) -> None:
    store, found = Store.open(copied / "kitchen.zarr"), Predictions.load(copied / RUNS[0])
    other = copied / "other.safetensors"

    def refuse(error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            Shelf(store, runs=[other])

    refuse(NotFound, "no predictions here")
    replace(found, taxonomy="0" * 32).save(other)
    refuse(FingerprintMismatch, "another taxonomy")
    replace(found, scores=found.scores[:, :63].copy()).save(other, overwrite=True)
    refuse(FingerprintMismatch, "63 actions")
    replace(found, uid=np.array([f"x{i}" for i in range(60)])).save(other, overwrite=True)
    refuse(FingerprintMismatch, "60, the first one x0")
    labels = store.labels(found.split)
    moment = labels.moments()[labels.locate(found.uid)]
    replace(found, moment=moment).save(other, overwrite=True)
    assert Shelf(store, runs=[other])  # these are the segments that it predicts
    replace(found, moment=moment[::-1]).save(other, overwrite=True)
    refuse(FingerprintMismatch, "60 of 60 others")
    tensors, metadata = read_tensors(other)
    few = {**metadata, "moment": json.dumps(moment[1:].tolist())}
    write_tensors(other, {k: np.asarray(v) for k, v in tensors.items()}, few)
    refuse(BadCheckpoint, "not one moment per uid")
    other.write_bytes(b"\xff" * 100)
    refuse(BadCheckpoint, "can't be read")
    shutil.copy(copied / "kitchen.zarr/zarr.json", other)
    refuse(BadCheckpoint, "can't be read")


def test_a_file_that_is_replaced_meanwhile_is_not_mixed(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antcache.evaluation.metrics.blocks.__defaults__", (7,))
    path = copied / RUNS[0] / "predictions.safetensors"
    blocks = FileOfScores.open(path).blocks()
    next(blocks)
    replace(Predictions.load(path), anchor=1.0).save(path, overwrite=True)
    with pytest.raises(BadCheckpoint, match="has changed"):
        next(blocks)


def test_scores_that_are_no_numbers_say_so(copied: Path) -> None:
    store, found = Store.open(copied / "kitchen.zarr"), Predictions.load(copied / RUNS[0])
    scores = found.scores.copy()
    scores[5, 5] = np.nan
    replace(found, scores=scores).save(copied / "nan.safetensors")
    shelf = Shelf(store, runs=[copied / "nan.safetensors"])
    assert "scores that are not finite" in read(shelf, "figures-2")["why"]
    segments = store.labels("train")
    logits = scores_of(segments, 64, 1.0, 0)
    logits[3] = -np.inf
    arrays = {"uid": segments.uid, "valid": np.ones(240, bool), "logits": logits}
    # As another tool, or an earlier version, may have written them.
    store.backend.publish("targets/odd", arrays, {"taxonomy": store.taxonomy.fingerprint})
    shelf = Shelf(store)
    assert "not finite" in read(shelf, "figures-0")["why"]
    with pytest.raises(BadPredictions, match="not finite"):
        shelf._system(0)


@pytest.mark.slow
def test_a_store_at_a_url(browsed: Path, s3_options: dict[str, Any], shelf: Shelf) -> None:
    s3fs = pytest.importorskip("s3fs")
    place = "kitchen/browsed.zarr"
    s3fs.S3FileSystem(**s3_options).put(str(browsed / "kitchen.zarr"), place, recursive=True)
    far = Shelf(Store.open(f"s3://{place}", storage_options=s3_options))
    for name in ("classes", "video-8", "figures-0", "guesses-1-3"):
        assert far.document(name) == shelf.document(name)
    assert read(far, "list")["segments"] == read(shelf, "list")["segments"]
