"""Predictions and soft targets against a store, through the library and the command."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.annotations import Segments
from antcache.cli.main import cli
from antcache.errors import BadConfig, BadPredictions, FingerprintMismatch, MissingTarget
from antcache.evaluation import Predictions, evaluate, score, score_predictions, score_targets
from antcache.evaluation.comparing.systems import as_system
from antcache.evaluation.predictions import moments_in
from antcache.store import SoftTargets, Store

SCORES = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)


def predict(taxonomy, uids, split="validation"):
    rows = ["abcd".index(uid[-1]) for uid in uids]
    return Predictions(
        uid=np.array(uids), scores=SCORES[rows], split=split, taxonomy=taxonomy.fingerprint
    )


@pytest.fixture
def targets(store, taxonomy):
    dense = SoftTargets(
        uid=np.array(["d", "c", "b", "a"]),
        valid=np.array([True, False, True, True]),
        logits=SCORES[::-1].copy(),
        attributes={"taxonomy": taxonomy.fingerprint},
    )
    store.write_targets("count", dense)
    store.write_targets("count2", dense.top_k(2))
    return dense


def test_the_order_of_predictions_does_not_matter(store, taxonomy, segments):
    result = evaluate(store, predict(taxonomy, ["c", "a", "d", "b"]), "p")
    expected = score(SCORES, segments, taxonomy)
    assert result.scored == pytest.approx(expected)
    assert result.all == result.scored


def test_missing_segments_are_counted_and_scored_as_wrong(store, taxonomy, segments):
    result = evaluate(store, predict(taxonomy, ["c", "a"]), "p")
    assert result.to_dict()["unpredicted"] == 2
    assert (result.scored["n"], result.all["n"]) == (2, 4)
    assert result.scored == score(SCORES[[2, 0]], segments[np.array([2, 0])], taxonomy)
    for k in ("action/top1", "action/top5", "verb/top5"):
        assert result.all[k] == pytest.approx(result.scored[k] / 2)


def test_an_empty_file_of_predictions_is_named(store, taxonomy, tmp_path):
    nothing = Predictions(
        uid=np.array([], dtype=str),
        scores=SCORES[:0],
        split="validation",
        taxonomy=taxonomy.fingerprint,
    )
    nothing.save(tmp_path / "p")
    with pytest.raises(BadPredictions, match=r"/p: no segment is predicted: expected some of 4"):
        score_predictions(store, tmp_path / "p")
    fine = predict(taxonomy, ["a"])
    with pytest.raises(BadPredictions, match=r"^p: no segment is predicted"):
        as_system(nothing, store.labels("validation"), taxonomy, "p")
    assert as_system(fine, store.labels("validation"), taxonomy, "p").known.sum() == 1


def test_predictions_for_other_segments_or_splits_are_refused(store, taxonomy, tmp_path):
    with pytest.raises(FingerprintMismatch, match=r"p: .*'train'.* 1, the first one c"):
        evaluate(store, predict(taxonomy, ["t-a", "c"], split="train"), "p")
    predict(taxonomy, ["a"]).save(tmp_path / "p")
    with pytest.raises(FingerprintMismatch, match="another split: expected train"):
        score_predictions(store, tmp_path / "p", "train")


def test_dense_targets_are_scored_like_predictions(store, taxonomy, segments, targets):
    result = score_targets(store, "count", "validation")
    kept = np.array([0, 1, 3])
    assert result.scored == score(SCORES[kept], segments[kept], taxonomy)
    assert (result.scored["n"], result.all["n"]) == (3, 4)


def test_top_k_targets_do_not_rank_the_others(store, taxonomy, segments, targets):
    kept = np.array([0, 1, 3])
    cut = SCORES[kept].copy()
    for row in cut:
        row[np.argsort(-row)[2:]] = -math.inf
    result = score_targets(store, "count2", "validation")
    assert result.scored == score(cut, segments[kept], taxonomy)
    dense = score_targets(store, "count", "validation")
    assert result.scored["action/top1"] == dense.scored["action/top1"]
    assert dense.scored["action/top5"] == 100  # of five classes; two are ranked above
    assert result.scored["action/top5"] < 100


def test_targets_for_none_of_the_segments(store, taxonomy, targets):
    other = Segments.of(
        uid=["x"], video=["w"], start_s=[1], stop_s=[2], verb=[0], noun=[0], action=[0]
    )
    store.write_labels("test", other, taxonomy, source="test")
    with pytest.raises(MissingTarget, match="targets/count"):
        score_targets(store, "count", "test")


def run(*arguments):
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)])


def test_command_as_json(store, taxonomy, targets, tmp_path):
    predict(taxonomy, ["c", "a"]).save(tmp_path / "run" / "predictions.safetensors")
    outcome = run(store.path, tmp_path / "run", "--targets", "count", "--json")
    assert outcome.exit_code == 0, outcome.output
    student, teacher = json.loads(outcome.stdout)
    assert student["name"] == str(tmp_path / "run")
    assert (student["scored"]["n"], student["all"]["n"], student["unpredicted"]) == (2, 4, 2)
    plain = score_targets(store, "count", "validation").to_dict()
    assert {name: teacher[name] for name in plain} == plain
    # Everything beside it is there as well: of the three that are seen, none is too early.
    assert teacher["denominators"]["rulstm"]["metrics"] == plain["all"]
    assert teacher["denominators"]["avt"]["n"] == 3
    assert teacher["denominators"]["all"]["intervals"] == {}
    assert teacher["calibration"]["n"] == 3


def test_command_as_table(store, taxonomy, targets, tmp_path):
    predict(taxonomy, ["c", "a", "b", "d"]).save(tmp_path / "p")
    outcome = run(store.path, tmp_path / "p", "--targets", "count")
    assert outcome.exit_code == 0, outcome.output
    assert "4 of 4 segments of 'validation' scored" in outcome.stdout
    assert "3 of 4 segments of 'validation' scored; 'all 4' counts the 1 without" in outcome.stdout
    for name in score_targets(store, "count", "validation").scored:
        assert name in outcome.stdout


def test_command_refuses_in_one_line(store, taxonomy, tmp_path):
    fine, alien = tmp_path / "fine", tmp_path / "alien"
    predict(taxonomy, ["a"]).save(fine)
    replace(predict(taxonomy, ["a"]), taxonomy="0" * 32).save(alien)
    broken = tmp_path / "broken"
    broken.write_bytes(b"no")
    unlabelled = Store.create(tmp_path / "unlabelled").path
    other = Store.create(tmp_path / "other")
    other.write_labels(
        "validation",
        store.labels("validation"),
        replace(taxonomy, dataset="another"),
        source="test",
    )
    for arguments, words in (
        ((tmp_path / "absent", fine), "no store here"),
        ((tmp_path, fine), "not an antcache store"),
        ((unlabelled, fine), "no labels"),
        ((other.path, fine), "another taxonomy"),
        ((store.path, tmp_path / "absent"), "no predictions here"),
        ((store.path, alien), "another taxonomy"),
        ((store.path, broken), "can't be read"),
        ((store.path, fine, "--split", "train"), "another split"),
        ((store.path, "--targets", "absent"), "no set of soft targets 'absent'"),
    ):
        outcome = run(*arguments)
        assert outcome.exit_code == 2, arguments
        assert words in outcome.stderr
        assert outcome.stderr.count("\n") == 1
        assert outcome.stdout == ""
    assert run(store.path).exit_code == 2


def test_labels_that_were_corrected_since_are_other_segments(store, segments, tmp_path):
    """Found by their uids, scored as what they were predicted for: never as another segment."""
    made = replace(predict(store.taxonomy, segments.uid), moment=segments.moments())
    made.save(tmp_path / "p.safetensors")
    loaded = Predictions.load(tmp_path / "p.safetensors")
    np.testing.assert_array_equal(loaded.moment, segments.moments())
    turned = loaded[np.array([3, 2, 1, 0])]
    assert evaluate(store, turned, "p").scored == score(SCORES, segments, store.taxonomy)

    def correct(**columns):
        corrected = replace(segments, **columns)
        store.write_labels("validation", corrected, store.taxonomy, source="x", overwrite=True)

    correct(action=segments.action[::-1], verb=segments.verb[::-1], noun=segments.noun[::-1])
    assert evaluate(store, loaded, "p").scored["n"] == 4  # what is done in them is the truth
    late = {"start_s": segments.start_s + 0.09, "stop_s": segments.stop_s + 0.5}
    correct(**late)  # as near as tables of the same segments are; nobody asked when they stop
    assert evaluate(store, loaded, "p").scored["n"] == 4
    with pytest.raises(FingerprintMismatch, match="found 4 of 4 others"):
        evaluate(store, replace(loaded, anchor=1.0), "p")
    for column in ("video", "start_s"):
        values = getattr(segments, column).copy()
        values[2] = "other" if column == "video" else values[2] + 0.25
        correct(**{column: values})
        with pytest.raises(FingerprintMismatch, match=r"p: .*found 1 of 4 others.*predict"):
            evaluate(store, loaded, "p")
        with pytest.raises(FingerprintMismatch, match="found 1 of 4 others"):
            as_system(loaded, store.labels("validation"), store.taxonomy, "p")
        with pytest.raises(FingerprintMismatch, match="found 1 of 4 others"):
            score_predictions(store, tmp_path / "p.safetensors")
    assert evaluate(store, replace(loaded, moment=None), "p").scored["n"] == 4  # nobody says


def test_a_stretch_may_begin_before_its_video_and_lack_a_stop(store, segments, tmp_path):
    moments = np.array(["-0.200 0.800 v", "0.000 nan v", *segments.moments()[2:]])
    made = replace(predict(store.taxonomy, segments.uid), moment=moments)
    made.save(tmp_path / "p.safetensors")
    loaded = Predictions.load(tmp_path / "p.safetensors")
    np.testing.assert_array_equal(loaded.moment, moments)


@pytest.mark.parametrize("text", ["", "0 1", "0 b v", "x 1 v", "nan 1 v", "inf 1 v", "0 inf v"])
def test_moments_of_another_form_are_refused(store, segments, text):
    moments = np.array([*segments.moments()[:3], text])
    with pytest.raises(BadConfig, match=r"no moment: expected what Segments\.moments"):
        replace(predict(store.taxonomy, segments.uid), moment=moments)
    with pytest.raises(ValueError, match="no moment"):  # as browse reads them
        moments_in({"moment": json.dumps([text])})
    with pytest.raises(BadConfig, match=r"no moment: .*found int64"):
        replace(predict(store.taxonomy, segments.uid), moment=np.arange(4))
