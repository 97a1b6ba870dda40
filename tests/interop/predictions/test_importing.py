"""Predictions become the targets that were asked for: matched by uid, and nothing made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_predictions import (
    ALL,
    CLASSES,
    check_all,
    columns,
    entry,
    feature_of,
    imported,
    logits_of,
    segments,
    taxonomy,
    write,
)

from antcache.errors import AlreadyExists, AntcacheError, BadConfig, BadPredictions
from antcache.store import Store

# What is imported


def test_two_files_their_hashes_and_the_attributes(store: Store, tmp_path: Path) -> None:
    train = write(tmp_path / "train.pkl", [entry(u) for u in ALL[:12]])
    rest = write(tmp_path / "val.pkl", [entry(u) for u in ALL[12:]])
    targets, report = imported(store, train, rest, history="complete")
    check_all(targets)
    attributes = targets.attributes
    assert attributes["kind"] == "imported"
    assert attributes["history"] == "complete"
    assert attributes["folds"] == "unknown"
    assert attributes["taxonomy"] == taxonomy().fingerprint
    assert attributes["form"] == "dense"
    assert [f["file"] for f in attributes["sources"]] == ["train.pkl", "val.pkl"]
    assert [f["predictions"] for f in attributes["sources"]] == [12, 6]
    hashes = {f["blake2b"] for f in attributes["sources"]}
    assert len(hashes) == 2
    assert all(h.startswith("blake2b:") and len(h) == 40 for h in hashes)
    assert report.splits["train"] == {"segments": 12, "predicted": 12, "missing": 0}


def test_segments_without_a_prediction_are_not_valid_and_counted(
    store: Store, tmp_path: Path
) -> None:
    path = write(tmp_path / "f.pkl", [entry(u) for u in (3, 1, 104)])
    targets, report = imported(store, path)
    assert targets.uid[targets.valid].tolist() == ["1", "3", "104"]
    assert targets.logits is not None
    assert targets.feature is not None
    assert np.isnan(targets.logits[~targets.valid]).all()
    assert np.isnan(targets.feature[~targets.valid]).all()
    assert report.splits == {
        "train": {"segments": 12, "predicted": 2, "missing": 10},
        "validation": {"segments": 6, "predicted": 1, "missing": 5},
    }
    assert report.missing["train"][:2] == ["2", "4"]


def test_several_histories_are_averaged_and_counted(store: Store, tmp_path: Path) -> None:
    """As entries, as rows of one entry, and over files; their features as well."""
    rows = np.stack([logits_of(2), logits_of(3), logits_of(4)])
    seen = np.stack([feature_of(2), feature_of(3), feature_of(4)])
    one = write(
        tmp_path / "1",
        [
            entry(1),
            entry(1, logit_action=-logits_of(1), LM_feat=feature_of(5)),
            entry(2, logit_action=rows, LM_feat=seen),
            entry(3),
        ],
    )
    two = write(tmp_path / "2", [entry(3, logit_action=logits_of(9)), entry(4)])
    targets, report = imported(store, one, two)
    assert targets.logits is not None
    assert targets.feature is not None
    np.testing.assert_allclose(targets.logits[0], np.zeros(CLASSES), atol=1e-6)
    np.testing.assert_allclose(targets.feature[0], (feature_of(1) + feature_of(5)) / 2, rtol=1e-5)
    np.testing.assert_allclose(targets.logits[1], rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(targets.feature[1], seen.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(targets.logits[2], (logits_of(3) + logits_of(9)) / 2, rtol=1e-5)
    np.testing.assert_array_equal(targets.logits[3], logits_of(4))
    assert report.averaged == {"segments": 3, "most": 3}
    assert report.in_several_files == 1


def test_the_mean_of_many_histories_does_not_depend_on_how_they_come(
    store: Store, tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(7, CLASSES)).astype(np.float32)
    wanted = rows.astype(np.float64).mean(axis=0).astype(np.float32)
    for name, entries in {
        "single": [{"uid": 1, "logits": row} for row in rows],
        "mixed": [{"uid": 1, "logits": part} for part in (rows[:3], rows[3], rows[4:])],
        "rows": [{"uid": 1, "logits": rows}],
    }.items():
        targets, report = imported(store, write(tmp_path / name, entries), name=name)
        assert targets.logits is not None
        np.testing.assert_allclose(targets.logits[0], wanted, rtol=1e-6)
        assert report.averaged == {"segments": 1, "most": 7}


def test_top_k(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "f", [entry(u) for u in ALL[:9]])
    targets, _ = imported(store, path, top_k=2)
    assert targets.index is not None
    assert targets.attributes["form"] == "top-2"
    assert targets.feature is not None
    wanted = np.argsort(-logits_of(1))[:2]
    np.testing.assert_array_equal(targets.index[0], wanted)
    np.testing.assert_array_equal(targets.valid, [uid in ALL[:9] for uid in ALL])
    with pytest.raises(BadConfig, match="expected from 1 to 6"):
        imported(store, path, name="other", top_k=7)


def test_features_may_be_left_out(store: Store, tmp_path: Path) -> None:
    mixed = [entry(1), {"uid": 2, "logits": logits_of(2)}]
    with pytest.raises(BadPredictions, match=r"1 predictions have features, 1 have none.*--no-f"):
        imported(store, write(tmp_path / "f", mixed))
    targets, _ = imported(store, tmp_path / "f", features=False)
    assert targets.feature is None
    assert targets.valid.sum() == 2


def test_entries_that_say_that_there_is_no_prediction(store: Store, tmp_path: Path) -> None:
    """`valid` false in .npz, null in parquet, and NaN throughout only where that is allowed."""
    own = columns()
    own["valid"] = own["uid"] != 2
    own["logits"][own["uid"] == 2] = np.nan
    np.savez(tmp_path / "f.npz", **own)
    targets, report = imported(store, tmp_path / "f.npz")
    assert targets.uid[~targets.valid].tolist() == ["2"]
    assert report.without == 1

    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [None if uid == 2 else logits_of(uid) for uid in ALL]
    pq.write_table(pa.table({"uid": ALL, "logits": rows}), tmp_path / "f.parquet")
    again, report = imported(store, tmp_path / "f.parquet", name="again")
    np.testing.assert_array_equal(again.valid, targets.valid)
    np.testing.assert_array_equal(again.logits, targets.logits)
    assert report.without == 1

    empty = np.full((CLASSES, 1), np.nan, np.float32)
    path = write(tmp_path / "f.pkl", [entry(1), entry(2, logit_action=empty, LM_feat=empty[:4])])
    with pytest.raises(BadPredictions, match=r"entry 1, uid 2.*NaN throughout.*--allow-nan"):
        imported(store, path, name="nan")
    targets, report = imported(store, path, name="nan", allow_nan=True)
    assert targets.uid[targets.valid].tolist() == ["1"]
    assert report.without == 1


# Uids


def test_uids_match_as_written_and_else_by_value(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s.zarr")
    store.write_labels("train", segments(["0012", "13", "P01_7"], "v"), taxonomy(), source="x")
    entries = [
        {"uid": 12, "logits": logits_of(1)},
        {"uid": "013", "logits": logits_of(2)},
        {"uid": b"P01_7", "logits": logits_of(3)},
    ]
    targets, report = imported(store, write(tmp_path / "f", entries))
    np.testing.assert_array_equal(targets.logits, [logits_of(u) for u in (1, 2, 3)])
    assert report.by_number == 2


def test_a_uid_that_can_mean_two_segments_is_refused(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s.zarr")
    store.write_labels("train", segments(["0012", "012", "3"], "v"), taxonomy(), source="x")
    exact = write(tmp_path / "exact", [{"uid": "012", "logits": logits_of(1)}])
    targets, _ = imported(store, exact)
    np.testing.assert_array_equal(targets.valid, [False, True, False])
    vague = write(tmp_path / "vague", [{"uid": 12, "logits": logits_of(1)}])
    with pytest.raises(BadPredictions, match="several segments: found 0012, 012"):
        imported(store, vague, name="vague")
    twice = [{"uid": uid, "logits": logits_of(1)} for uid in ("3", "03")]
    with pytest.raises(BadPredictions, match="under two uids: found 3 and 03"):
        imported(store, write(tmp_path / "twice", twice), name="twice")


def test_predictions_for_unknown_segments(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "f.pkl", [entry(u) for u in (1, 900, 901)])
    with pytest.raises(BadPredictions, match=r"entry 1, uid 900: 2 predictions .* found 900, 901"):
        imported(store, path)
    assert store.target_names() == []
    targets, report = imported(store, path, allow_unknown=True)
    assert targets.valid.sum() == 1
    assert (report.unknown, report.unknown_uids) == (2, ["900", "901"])
    none = write(tmp_path / "none.pkl", [entry(900)])
    with pytest.raises(BadPredictions, match="no segment of the store has a prediction"):
        imported(store, none, name="none", allow_unknown=True)


# What is refused

WRONG: dict[str, tuple[Any, str]] = {
    "another number of classes": (
        [entry(1, logit_action=np.ones(7, "f4"))], r"entry 0, uid 1: logits .* expected 6.*\(7,\)"
    ),
    "no history at all": ([entry(1, logit_action=np.ones((0, 6)))], r"found \(0, 6\)"),
    "one value": ([entry(1, logit_action=np.array(1.0))], r"found \(\)"),
    "features of another width": (
        [entry(1), entry(2, LM_feat=np.ones(5))], r"uid 2: features .* expected 4"
    ),
    "infinite logits": (
        [entry(1), entry(7, logit_action=np.array([0, 1, 2, np.inf, 0, 0]))],
        r"entry 1, uid 7: logits that are not finite: found \[inf\] at 3",
    ),
    "too large for float32": ([entry(1, logit_action=np.full(6, 1e300))], "not finite"),
    "features that are not finite": (
        [entry(5, LM_feat=np.array([0, np.nan, 0, 0]))], "uid 5: features that are not finite"
    ),
    "text for logits": ([entry(1, logit_action="high")], "not an array of numbers: found str"),
    "text array": ([entry(1, logit_action=np.array(["a"] * 6))], "not an array of numbers: found"),
    "lists of lists": ([entry(1, logit_action=[[1.0] * 6])], "not an array of numbers: found list"),
    "no logits": ([{"uid": 1, "logit_verb": 2}], "expected logits or logit_action, found 'uid'"),
    "two kinds of logits": ([entry(1, logits=np.ones(6))], "logits and logit_action: which?"),
    "no uid": ([{"logits": np.ones(6)}], "entry 0: no uid"),
    "a uid that is none": ([entry(1, uid=1.5)], "neither text nor an integer: found float"),
    "a list for uid": ([entry(1, uid=[1])], "neither text nor an integer: found list"),
    "a list of arrays": ([np.ones(6)], "entry 0: not a prediction.*found ndarray"),
    "a number": (5, "not predictions.*found int"),
    "columns of unequal length": (
        {"uid": [1, 2], "logits": np.ones((3, 6))}, "columns of unequal length"
    ),
    "no column": ({"uid": 1, "logits": np.ones((3, 6))}, "uid is no column: found int"),
    "nothing": ([], "no segment of the store has a prediction"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_and_named(store: Store, tmp_path: Path, what: str) -> None:
    content, why = WRONG[what]
    path = write(tmp_path / "f.pkl", content)
    with pytest.raises(BadPredictions, match=why) as caught:
        imported(store, path)
    assert len(str(caught.value).splitlines()) == 1
    assert store.target_names() == []


def test_nothing_is_overwritten_unasked(store: Store, tmp_path: Path) -> None:
    first, second = write(tmp_path / "1", [entry(1)]), write(tmp_path / "2", [entry(2)])
    imported(store, first)
    with pytest.raises(AlreadyExists, match=r"targets/bert.*--overwrite"):
        imported(store, second)
    assert store.targets("bert").uid[store.targets("bert").valid].tolist() == ["1"]
    targets, _ = imported(store, second, overwrite=True)
    assert targets.uid[targets.valid].tolist() == ["2"]
    own = np.concatenate([store.labels(split).moments() for split in store.splits()])
    assert targets.moment is not None
    np.testing.assert_array_equal(targets.moment, own)


def test_a_store_without_labels(tmp_path: Path) -> None:
    empty = Store.create(tmp_path / "empty.zarr")
    with pytest.raises(AntcacheError, match="no labels"):
        imported(empty, write(tmp_path / "f", [entry(1)]))
