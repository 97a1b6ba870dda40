"""The file of predictions: complete or absent, readable without antcache, and refused if wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from antcache.errors import AlreadyExists, BadCheckpoint, BadConfig, FingerprintMismatch, NotFound
from antcache.evaluation.predictions import Predictions
from antcache.tensors import read_tensors


@pytest.fixture
def predictions(taxonomy):
    return Predictions(
        uid=np.array(["a", "d"]),
        scores=np.arange(10, dtype=np.float32).reshape(2, 5),
        split="validation",
        taxonomy=taxonomy.fingerprint,
        config={"model": "light", "seed": 1},
    )


def same(a, b):
    return (
        a.uid.tolist() == b.uid.tolist()
        and np.array_equal(a.scores, b.scores)
        and (a.split, a.taxonomy, a.config) == (b.split, b.taxonomy, b.config)
    )


def test_round_trip(tmp_path, predictions, taxonomy):
    path = tmp_path / "run" / "predictions.safetensors"
    predictions.save(path)
    for place in (path, path.parent):
        assert same(Predictions.load(place), predictions)
    Predictions.load(path).check_taxonomy(taxonomy)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_plain_safetensors_reads_it(tmp_path, predictions):
    from safetensors import safe_open

    predictions.save(tmp_path / "p.safetensors")
    with safe_open(tmp_path / "p.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["uid"]) == ["a", "d"]
        assert file.get_tensor("scores").tolist() == predictions.scores.tolist()


def test_nothing_is_overwritten_unasked(tmp_path, predictions):
    path = tmp_path / "p.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(AlreadyExists, match=r"p\.safetensors: something is already here"):
        predictions.save(path)
    assert path.read_bytes() == b"mine"
    predictions.save(path, overwrite=True)
    assert same(Predictions.load(path), predictions)


def test_a_failed_write_leaves_what_was_there(tmp_path, predictions, monkeypatch):
    path = tmp_path / "p.safetensors"
    predictions.save(path)
    before = path.read_bytes()

    def half(tensors, name, metadata):
        name.write_bytes(before[:20])
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.numpy.save_file", half)
    with pytest.raises(OSError, match="disk full"):
        predictions.save(path, overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]


def test_damaged_files_are_refused_in_one_line(tmp_path, predictions):
    path = tmp_path / "p.safetensors"
    predictions.save(path)
    whole = path.read_bytes()
    for broken in (b"", b"{}", whole[:-8], whole[:50]):
        path.write_bytes(broken)
        with pytest.raises(BadCheckpoint, match=r"p\.safetensors") as caught:
            Predictions.load(path)
        assert "\n" not in str(caught.value)


def test_another_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.zeros(3, dtype=np.float32)}, path)
    with pytest.raises(BadCheckpoint, match="not a file of predictions"):
        Predictions.load(path)


def test_metadata_that_does_not_fit_is_refused(tmp_path, predictions):
    path = tmp_path / "p.safetensors"
    metadata = {"format": "antcache-predictions-1", "split": "x", "taxonomy": "y", "config": "{}"}
    uids = ('["a"]', "not json", None, "[" * 10**5, '{"a": 1}', '[["a"]]', f'["{"a" * 256}"]')
    for uid in uids:
        more = {} if uid is None else {"uid": uid}
        save_file({"scores": predictions.scores}, path, metadata={**metadata, **more})
        with pytest.raises(BadCheckpoint, match="can't be read"):
            Predictions.load(path)


def test_configs_that_are_none_are_refused(tmp_path, predictions):
    predictions.save(tmp_path / "whole")
    metadata = read_tensors(tmp_path / "whole").metadata
    for config in ("[]", "3", "{", '{"a":' * 10**5, f'{{"a": {"9" * 5000}}}'):
        save_file({"scores": predictions.scores}, tmp_path / "p", {**metadata, "config": config})
        with pytest.raises(BadCheckpoint, match="can't be read"):
            Predictions.load(tmp_path / "p")


def test_missing_file(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NotFound, match="no predictions here"):
            Predictions.load(path)


def test_another_taxonomy(predictions, taxonomy):
    from dataclasses import replace

    other = replace(taxonomy, verbs=("grab", "put", "wash"))
    with pytest.raises(FingerprintMismatch, match=r"run: .*another taxonomy"):
        predictions.check_taxonomy(other, where="run")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uid": np.array(["a"])}, "one row of scores per uid"),
        ({"uid": np.array(["a", "a"])}, "predicted twice"),
        ({"scores": np.zeros((2, 5))}, "float32"),
    ],
)
def test_bad_predictions(change, words):
    fields = {"uid": np.array(["a", "b"]), "scores": np.zeros((2, 5), dtype=np.float32)}
    with pytest.raises(BadConfig, match=words):
        Predictions(**{**fields, **change}, split="validation", taxonomy="t")


def test_own_verb_and_noun_scores_are_kept(tmp_path):
    own = {"verb_scores": np.ones((2, 3), np.float32), "noun_scores": np.zeros((2, 4), np.float32)}
    fields = {"uid": np.array(["a", "b"]), "split": "validation", "taxonomy": "t"}
    fields["scores"] = np.zeros((2, 5), np.float32)
    made = Predictions(**fields, **own)
    made.save(tmp_path / "p")
    read = Predictions.load(tmp_path / "p")
    for name, expected in own.items():
        np.testing.assert_array_equal(getattr(read, name), expected)
    assert Predictions(**fields).verb_noun_scores is None
    assert read.verb_noun_scores is not None
    wrong = (
        ({"verb_scores": own["verb_scores"]}, "go together"),
        ({**own, "noun_scores": np.zeros((1, 4), np.float32)}, "noun_scores do not fit"),
        ({**own, "verb_scores": np.zeros((2, 3))}, "verb_scores do not fit"),
    )
    for changes, words in wrong:
        with pytest.raises(BadConfig, match=words):
            Predictions(**fields, **changes)
