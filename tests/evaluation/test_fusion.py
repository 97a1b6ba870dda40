"""Late fusion: mixtures by hand, weights by hand and against a grid, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from antcache.annotations import Segments
from antcache.cli.evaluation.fuse import fuse as command
from antcache.cli.main import cli
from antcache.errors import BadConfig, FingerprintMismatch, NotFound
from antcache.evaluation import Predictions
from antcache.evaluation.fusion import fit_weights, fuse, mix
from antcache.evaluation.predictions import HELD_OUT
from antcache.store import Store

P = np.array([[0.7, 0.1, 0.1, 0.05, 0.05], [0.2, 0.2, 0.2, 0.2, 0.2]])
Q = np.array([[0.1, 0.6, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.6]])


@pytest.fixture
def runs(store, taxonomy, tmp_path):
    """Two runs on the validation segments c and d, held out on the training segments a and b."""
    for name, p in (("one", P), ("two", Q)):
        for file, uids, split in (
            ("predictions.safetensors", ["c", "d"], "validation"),
            (HELD_OUT, ["t-a", "t-b"], "train"),
        ):
            Predictions(
                uid=np.array(uids),
                scores=np.log(p).astype(np.float32),
                split=split,
                taxonomy=taxonomy.fingerprint,
            ).save(tmp_path / name / file)
    return [str(tmp_path / "one"), str(tmp_path / "two")]


def test_mixtures_by_hand():
    w = np.array([0.25, 0.75])
    logs = [np.log(P) + 3, np.log(Q)]  # a constant is no matter
    np.testing.assert_allclose(np.exp(mix(logs, w, "probabilities")), 0.25 * P + 0.75 * Q)
    np.testing.assert_allclose(np.exp(mix(logs, w, "logits")), P**0.25 * Q**0.75)
    gone = np.array([[0.0, -600, -np.inf, -np.inf, -np.inf]])
    assert np.isfinite(mix([logs[0][:1], gone], np.array([1.0, 0.0]), "logits")).all()


def test_weights_by_hand(store, runs):
    # Truths are 0 and 0: p 0.7, 0.2 and q 0.1, 0.1: the first run explains each of them better.
    found = fuse(store, runs, weights="held-out")
    assert found.weights == pytest.approx((1, 0), abs=1e-3)
    assert found.held_out == 2
    assert found.nll[:2] == pytest.approx((-np.log([0.7, 0.2]).mean(), -np.log([0.1, 0.1]).mean()))
    assert found.nll[2] == pytest.approx(found.nll[0], abs=1e-3)
    equal = fuse(store, runs)
    np.testing.assert_allclose(np.exp(equal.predictions.scores), (P + Q) / 2, rtol=1e-5)
    assert equal.predictions.config["weights"] == [0.5, 0.5]
    assert (equal.predictions.split, equal.nll, equal.left_out) == ("validation", (), 0)
    third = fuse(store, runs, weights=(3, 1))
    np.testing.assert_allclose(np.exp(third.predictions.scores), 0.75 * P + 0.25 * Q, rtol=1e-5)


def test_weights_where_a_run_rules_a_truth_out():
    """Truths with p = 0.6, 0 and q = 0.2, 0.2: half of log(0.6 w + 0.2 v) + log(0.2 v) at best."""
    one = np.log(np.array([[0.6, 0.4], [1.0, 1.0]]))
    one[1, 0] = -np.inf
    other = np.log(np.array([[0.2, 0.8], [0.2, 0.8]]))
    weights, nll = fit_weights([one, other], np.array([0, 0]), mixture="probabilities")
    # d/dv of log(0.6 - 0.4 v) + log(0.2 v): v = 0.75
    assert weights == pytest.approx((0.25, 0.75), abs=1e-3)
    assert nll[0] == np.inf
    assert nll[1] == pytest.approx(-np.log(0.2))
    assert nll[2] == pytest.approx(-(np.log(0.3) + np.log(0.15)) / 2, abs=1e-5)
    with pytest.raises(BadConfig, match="1 of 2 without one"):
        fit_weights([one, one], np.array([0, 0]), mixture="probabilities")
    with pytest.raises(BadConfig, match="1 of 2 without one"):
        fit_weights([one, other], np.array([0, 0]), mixture="logits")
    with pytest.raises(BadConfig, match="0 of 0 without one"):
        fit_weights([one[:0], other[:0]], np.zeros(0, int), mixture="logits")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), mixture=st.sampled_from(["probabilities", "logits"]))
def test_no_weights_on_a_grid_are_better(seed, mixture):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 25)
    scores = [rng.standard_normal((25, 4)) for _ in range(2)]
    for s, help_ in zip(scores, rng.uniform(0, 3, 2), strict=True):
        s[np.arange(25), truth] += help_
    weights, nll = fit_weights(scores, truth, mixture=mixture)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    for w in np.linspace(0, 1, 41):
        mixed = log_softmax(mix(scores, np.array([w, 1 - w]), mixture), axis=1)
        assert nll[-1] <= -mixed[np.arange(25), truth].mean() + 1e-4
    mixed = log_softmax(mix(scores, weights, mixture), axis=1)
    assert nll[-1] == pytest.approx(-mixed[np.arange(25), truth].mean(), abs=1e-6)


def test_segments_that_a_run_lacks_are_left_out(store, runs, taxonomy, tmp_path):
    Predictions(
        uid=np.array(["d", "b"]),
        scores=np.log(Q).astype(np.float32),
        split="validation",
        taxonomy=taxonomy.fingerprint,
    ).save(tmp_path / "third")
    found = fuse(store, [runs[0], str(tmp_path / "third")])
    assert found.predictions.uid.tolist() == ["d"]
    assert found.left_out == 2
    np.testing.assert_allclose(np.exp(found.predictions.scores), (P[1:] + Q[:1]) / 2, rtol=1e-5)


def test_own_verb_scores_are_fused_where_all_have_them(store, runs, taxonomy, tmp_path):
    own = {
        "verb_scores": np.log(P[:, :3]).astype(np.float32),
        "noun_scores": np.log(P[:, :4]).astype(np.float32),
    }
    shared = {"uid": np.array(["c", "d"]), "split": "validation"}
    shared |= {"taxonomy": taxonomy.fingerprint, "scores": np.log(P).astype(np.float32)}
    Predictions(**shared, **own).save(tmp_path / "own")
    both = fuse(store, [str(tmp_path / "own")] * 2).predictions
    expected = P[:, :3] / P[:, :3].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(both.verb_scores), expected, rtol=1e-5)
    assert fuse(store, [str(tmp_path / "own"), runs[0]]).predictions.verb_noun_scores is None


def test_segments_left_out_are_told(store, runs, taxonomy, tmp_path):
    Predictions(
        uid=np.array(["d"]),
        scores=np.log(Q[:1]).astype(np.float32),
        split="validation",
        taxonomy=taxonomy.fingerprint,
    ).save(tmp_path / "few")
    words = ["fuse", str(store.path), runs[0], str(tmp_path / "few"), "-o", str(tmp_path / "out")]
    outcome = CliRunner().invoke(cli, words)
    assert outcome.exit_code == 0, outcome.output
    assert "out: 1 segments" in outcome.output.replace("\n", "")
    assert "1 segments that a run lacks are left out" in outcome.output


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["scores", "verb_scores"])
def test_scores_that_are_not_finite_are_refused(store, runs, taxonomy, tmp_path, kind, value):
    """By every command that reads predictions; the file and the segment are named."""
    scores = {
        name: np.zeros((2, width), dtype=np.float32)
        for name, width in (("scores", 5), ("verb_scores", 3), ("noun_scores", 4))
    }
    scores[kind][1, 2] = value
    bad = tmp_path / "bad"
    Predictions(
        uid=np.array(["c", "d"]), split="validation", taxonomy=taxonomy.fingerprint, **scores
    ).save(bad)
    expected = f"Error: {bad}: {kind} that are not finite: "
    for words in (
        ("fuse", store.path, runs[0], bad, "-o", tmp_path / "fused"),
        ("fuse", store.path, bad, runs[0], "-o", tmp_path / "fused", "--weights", "0,1"),
        ("evaluate", store.path, bad),
        ("compare", store.path, runs[0], bad),
    ):
        refused = CliRunner().invoke(cli, [str(word) for word in words])
        assert refused.exit_code == 2
        assert refused.stderr.startswith(expected)
        assert "for segment d; 1 of 2 such segments" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "fused").exists()


def test_refusals(store, runs, taxonomy, tmp_path):
    one, two = runs
    Predictions(
        uid=np.array(["a"]),
        scores=np.log(P[:1]).astype(np.float32),
        split="validation",
        taxonomy=taxonomy.fingerprint,
    ).save(tmp_path / "elsewhere")
    with pytest.raises(FingerprintMismatch, match="no segment in common"):
        fuse(store, [one, str(tmp_path / "elsewhere")])
    for wrong in ((0, 0), (1,), (1, -1), (float("nan"), 1), "best"):
        with pytest.raises(BadConfig, match="impossible weights"):
            fuse(store, runs, weights=wrong)
    with pytest.raises(BadConfig, match="number of runs to fuse: expected from 2"):
        fuse(store, [one])
    with pytest.raises(BadConfig, match="probabilities or logits"):
        fuse(store, runs, mixture="ranks")
    with pytest.raises(BadConfig, match="no effect"):
        fuse(store, runs, held_out=runs)
    with pytest.raises(BadConfig, match="on the segments that are fused"):
        fuse(store, runs, weights="held-out", held_out=runs)
    with pytest.raises(BadConfig, match="other runs"):
        fuse(store, runs, weights="held-out", held_out=[f"{one}/{HELD_OUT}"])
    with pytest.raises(FingerprintMismatch, match="another split"):
        fuse(store, [one, f"{two}/{HELD_OUT}"])
    (tmp_path / "two" / HELD_OUT).unlink()
    with pytest.raises(NotFound, match=r"two/held_out\.safetensors.*--held-out"):
        fuse(store, runs, weights="held-out")
    with pytest.raises(BadConfig, match="1 of 2 without one"):
        fit_weights([np.array([[0, -np.inf], [0.0, 1]])] * 2, np.array([1, 1]), mixture="logits")


def test_command(store, runs, tmp_path):
    arguments = [str(store.path), *runs, "-o", str(tmp_path / "fused"), "--json"]
    outcome = CliRunner().invoke(command, [*arguments, "--weights", "held-out"])
    assert outcome.exit_code == 0, outcome.output
    said = json.loads(outcome.stdout)
    assert said["weights"][runs[0]] == pytest.approx(1, abs=1e-3)
    assert Predictions.load(tmp_path / "fused").uid.tolist() == ["c", "d"]
    again = CliRunner().invoke(command, arguments)
    assert "already here" in str(again.exception)
    wrong = CliRunner().invoke(command, [*arguments, "--overwrite", "--weights", "0.5;0.5"])
    assert "numbers: 0.5,0.3,0.2" in str(wrong.exception)
    table = CliRunner().invoke(
        command, [*arguments[:-1], "--overwrite", "--weights", "held-out", "--mixture", "logits"]
    )
    assert table.exit_code == 0, table.output
    assert "2 held out" in table.output


def train_two(taxonomy, folder, *, without=""):
    """A store, and two students that hold half of its training videos out.

    The features of the videos `without` are missing.
    """
    store = Store.create(folder / "kitchen")
    store.create_stream("rgb", dim=4, dtype="float16", fps=4, source="made up", config={})
    rng = np.random.default_rng(0)
    for split, names in (("train", "abcde"), ("validation", "vw")):
        videos, action = [name for name in names for _ in range(6)], np.arange(6 * len(names)) % 5
        start = np.tile(np.arange(6) * 3.0 + 2, len(names))
        segments = Segments.of(
            uid=[f"{video}{i}" for i, video in enumerate(videos)],
            video=videos,
            start_s=start,
            stop_s=start + 3,
            verb=taxonomy.verb_of[action],
            noun=taxonomy.noun_of[action],
            action=action,
        )
        store.write_labels(split, segments, taxonomy, source="made up")
        for name in sorted(set(names) - set(without)):
            rows = rng.standard_normal((90, 4)).astype(np.float16)
            store.write_features("rgb", name, rows)
    common = ("--head", "mean", "--epochs", 1, "--device", "cpu", "--held-out", 0.5)
    runs = [str(folder / f"run{seed}") for seed in range(2)]
    for seed, run in enumerate(runs):
        own = ("--run", run, "--seed", seed, *common, "--allow-missing")
        said = invoke("student", "train", store.path, *own)
        assert said.exit_code == 0, said.output
    return store, runs


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_videos_that_a_student_was_trained_on_are_refused(taxonomy, tmp_path):
    store, runs = train_two(taxonomy, tmp_path)

    def fuse_on(*files):
        named = [word for file in files for word in ("--held-out-predictions", file)]
        output = ("-o", tmp_path / "fused", "--overwrite", "--json")
        return invoke("fuse", store.path, *runs, *output, "--weights", "held-out", *named)

    seen = [tmp_path / f"train{i}.safetensors" for i in range(2)]
    for run, file in zip(runs, seen, strict=True):
        predict = ("student", "predict", store.path, run, "-o", file, "--split", "train")
        assert invoke(*predict).exit_code == 0
    refused = fuse_on(*seen)
    assert refused.exit_code == 2
    assert len(refused.stderr.splitlines()) == 1
    said = "train0.safetensors: weights can't be fitted on videos that the student was trained on"
    assert f"{said}: found 18 of 30 segments" in refused.stderr
    assert not (tmp_path / "fused").exists()

    own = fuse_on()
    assert own.exit_code == 0, own.output
    copied = [shutil.copy(f"{run}/{HELD_OUT}", tmp_path / f"copy{i}") for i, run in enumerate(runs)]
    for files in ([f"{run}/{HELD_OUT}" for run in runs], copied):
        assert json.loads(fuse_on(*files).stdout) == json.loads(own.stdout)

    # Of predictions without an account nobody can say what they were trained on.
    for file in seen:
        found = vars(Predictions.load(file))
        Predictions(**{**found, "config": {}}).save(file, overwrite=True)
    assert json.loads(fuse_on(*seen).stdout)["held_out"] == 30
    # A student that held nothing out was trained on all of them.
    Predictions(**{**found, "config": {"train_split": "train"}}).save(file, overwrite=True)
    assert "found 30 of 30 segments" in fuse_on(*seen).stderr


def test_what_a_run_held_out_passes_whatever_it_lacked(taxonomy, tmp_path):
    """A video without features makes room for another one among those held out."""
    store, runs = train_two(taxonomy, tmp_path, without="d")
    assert {uid[0] for uid in Predictions.load(f"{runs[0]}/{HELD_OUT}").uid} == {"b", "c"}
    named = [word for run in runs for word in ("--held-out-predictions", f"{run}/{HELD_OUT}")]
    output = ("-o", tmp_path / "fused", "--weights", "held-out")
    said = invoke("fuse", store.path, *runs, *output, *named)
    assert said.exit_code == 0, said.output


def test_weights_apart_are_of_videos_that_no_run_was_trained_on(taxonomy, tmp_path):
    store, runs = train_two(taxonomy, tmp_path)
    own = ("fuse", store.path, *runs, "-o", tmp_path / "fused", "--weights", "apart")
    assert invoke(*own).exit_code == 0
    seen = []
    for i, run in enumerate(runs):
        seen += ["--held-out-predictions", tmp_path / f"train{i}"]
        predict = ("student", "predict", store.path, run, "-o", seen[-1], "--split", "train")
        assert invoke(*predict).exit_code == 0
    refused = invoke(*own, "--overwrite", *seen)
    assert refused.exit_code == 2
    assert "on videos that the student was trained on" in refused.stderr


def test_what_is_fused_says_of_which_segments(store, runs, tmp_path):
    """Runs that say it say the same, or are of other labels than those of today."""
    labels = store.labels("validation")
    moments = labels.moments()[labels.locate(np.array(["c", "d"]))]
    assert fuse(store, runs).predictions.moment is None
    one, two = (Predictions.load(run) for run in runs)
    own = {"one": replace(one, moment=moments), "two": two[np.array([1, 0])]}
    other = replace(two, moment=np.array([moments[0], "90.000 91.000 v"]))
    for name, made in {**own, "other": other}.items():
        made.save(tmp_path / f"{name}.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in ("two", "one")]
    fused = fuse(store, files).predictions
    by_uid = dict(zip(fused.uid.tolist(), fused.moment.tolist(), strict=True))
    assert by_uid == dict(zip(["c", "d"], moments.tolist(), strict=True))
    with pytest.raises(FingerprintMismatch, match=r"other\.safetensors: .*1 of 2 others.* d"):
        fuse(store, [files[1], str(tmp_path / "other.safetensors")])
    with pytest.raises(FingerprintMismatch, match="the store now has"):
        fuse(store, [str(tmp_path / "other.safetensors")] * 2)
