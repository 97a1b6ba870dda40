"""A run by itself: its student is what it is over the store, and what it says is checked."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from antcache.errors import BadCheckpoint, FingerprintMismatch, NotFound
from antcache.student.runs.kept import KeptStudent


@pytest.fixture
def trained(make_run, small):
    store, run, _ = make_run(small.replace(verb_noun_weight=0.5))
    return store, run


def change(run, **what):
    file = run / "config.json"
    account = json.loads(file.read_text())
    account.update(what)
    file.write_text(json.dumps({k: v for k, v in account.items() if v is not None}))


def test_it_is_the_student_of_the_run(trained):
    store, run = trained
    kept = KeptStudent.load(run)
    assert kept.taxonomy == store.taxonomy
    assert kept.protocol == store.protocol
    assert [stream.name for stream in kept.streams] == store.streams()
    stream = store.stream(kept.streams[0].name)
    assert kept.streams[0].fingerprint == stream.fingerprint
    assert kept.streams[0].settings == json.loads(json.dumps(stream.settings))
    assert kept.streams[0].source == stream.source


def test_its_scores_are_those_that_the_run_reports(trained):
    from antcache import Store
    from antcache.evaluation import Predictions

    store, run = trained
    reported = Predictions.load(run / "predictions.safetensors")
    windows = Store.open(store.path).windows("validation", allow_missing=True)
    features = torch.stack([windows[i][0] for i in range(len(windows))])
    output = KeptStudent.load(run).predictor(features)
    np.testing.assert_array_equal(windows.labels.uid, reported.uid)
    np.testing.assert_allclose(output.logits, reported.scores, atol=1e-5)


def test_a_run_from_before(trained):
    """Its classes are taken from whoever knows them; what else it lacks is said."""
    store, run = trained
    change(run, classes=None, **{"stream sources": None})
    with pytest.raises(BadCheckpoint, match="did not keep its classes"):
        KeptStudent.load(run)
    kept = KeptStudent.load(run, taxonomy=store.taxonomy)
    assert kept.streams[0].source == ""
    other = replace(store.taxonomy, dataset="another")
    with pytest.raises(FingerprintMismatch, match="another taxonomy"):
        KeptStudent.load(run, taxonomy=other)
    change(run, **{"stream settings": None})
    with pytest.raises(BadCheckpoint, match="settings of its streams"):
        KeptStudent.load(run, taxonomy=store.taxonomy)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"classes": {"dataset": "x"}}, "classes make no sense"),
        ({"classes": []}, "classes make no sense"),
        ({"stream settings": [1]}, "streams make no sense"),
        ({"stream settings": {}}, "streams make no sense"),
        ({"stream settings": [{"dim": 5}]}, "streams make no sense"),
        ({"stream sources": ["a", "b"]}, "streams make no sense"),
        ({"stream": "a,b"}, "streams make no sense"),
        ({"protocol": {"gap_s": 1}}, "account can't be read"),
        ({"shape": {}}, "account can't be read"),
    ],
)
def test_an_account_that_makes_no_sense(trained, what, words):
    _, run = trained
    change(run, **what)
    with pytest.raises(BadCheckpoint, match=words):
        KeptStudent.load(run)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_frames", 0),
        ("num_frames", 10**6),
        ("tokens", 0),
        ("tokens", 4),
        ("num_verbs", 0),
        ("num_classes", 1),
        ("steps_ahead", 10**6),
        ("num_teachers", 3),
        ("dims", []),
        ("dims", [2, 2]),
    ],
)
def test_a_shape_that_is_not_that_of_its_windows(trained, name, value):
    """Whether or not there are weights that would fit."""
    _, run = trained
    shape = json.loads((run / "config.json").read_text())["shape"]
    change(run, shape={**shape, name: value})
    with pytest.raises(BadCheckpoint, match=rf"not of the shape of .* found {name} "):
        KeptStudent.load(run)


def test_classes_of_another_run(trained):
    store, run = trained
    change(run, classes=replace(store.taxonomy, dataset="another").to_dict())
    with pytest.raises(BadCheckpoint, match="not the classes"):
        KeptStudent.load(run)


def test_no_run(tmp_path):
    with pytest.raises(NotFound, match="no run here"):
        KeptStudent.load(tmp_path)
