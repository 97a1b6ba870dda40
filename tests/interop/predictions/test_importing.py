"""`antcache import predictions`: every form of file gives the same targets, and nothing made up."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from antcache.annotations import Segments, Taxonomy
from antcache.cli.main import cli
from antcache.errors import (
    AlreadyExists,
    AntcacheError,
    BadConfig,
    BadPredictions,
    NotFound,
    RefusedPickle,
)
from antcache.evaluation import score_targets
from antcache.interop.predictions.importing import (
    PredictionsConfig,
    PredictionsReport,
    import_predictions,
)
from antcache.store import SoftTargets, Store

CLASSES, WIDTH = 6, 4
Entry = dict[str, Any]


def taxonomy() -> Taxonomy:
    return Taxonomy(
        dataset="tiny",
        verbs=("take", "cut"),
        nouns=("pan", "leek", "salt"),
        actions=tuple(f"action {i}" for i in range(CLASSES)),
        action_verbs=(0, 0, 0, 1, 1, 1),
        action_nouns=(0, 1, 2, 0, 1, 2),
    )


def segments(uids: list[str], video: str) -> Segments:
    n = len(uids)
    actions = np.arange(n) % CLASSES
    return Segments.of(
        uid=uids,
        video=[video] * n,
        start_s=5 + 3.0 * np.arange(n),
        stop_s=8 + 3.0 * np.arange(n),
        verb=taxonomy().verb_of[actions],
        noun=taxonomy().noun_of[actions],
        action=actions,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Training segments 1 to 12, validation segments 101 to 106."""
    made = Store.create(tmp_path / "kitchen.zarr")
    made.write_labels(
        "train", segments([str(i) for i in range(1, 13)], "v1"), taxonomy(), source="made up"
    )
    made.write_labels(
        "validation", segments([str(i) for i in range(101, 107)], "v2"), taxonomy(), source="made"
    )
    return made


def logits_of(uid: int) -> np.ndarray:
    return np.random.default_rng(uid).normal(size=CLASSES).astype(np.float32)


def feature_of(uid: int) -> np.ndarray:
    return np.random.default_rng(1000 + uid).normal(size=WIDTH).astype(np.float32)


def entry(uid: int, /, **changes: Any) -> Entry:
    """As the published teacher writes it: columns of shape (C, 1), history and target beside."""
    fields = {
        "uid": uid,
        "history": [[3, 1], [2]],
        "target": 4,
        "logit_action": logits_of(uid)[:, None],
        "LM_feat": feature_of(uid)[:, None],
    }
    return {**fields, **changes}


def write(path: Path, entries: Any) -> Path:
    path.write_bytes(pickle.dumps(entries))
    return path


def imported(store: Store, *paths: Path, **settings: Any) -> tuple[SoftTargets, PredictionsReport]:
    config = PredictionsConfig(**{"name": "bert", **settings})
    report = import_predictions(store, paths, config)
    return store.targets(config.name), report


ALL = [*range(1, 13), *range(101, 107)]


def check_all(targets: SoftTargets) -> None:
    assert targets.uid.tolist() == [str(uid) for uid in ALL]
    assert targets.valid.all()
    assert targets.logits is not None
    assert targets.feature is not None
    np.testing.assert_array_equal(targets.logits, [logits_of(uid) for uid in ALL])
    np.testing.assert_array_equal(targets.feature, [feature_of(uid) for uid in ALL])
    assert targets.logits.dtype == targets.feature.dtype == np.float32


# Forms


def as_tensors(uid: int) -> Entry:
    return entry(
        uid,
        uid=torch.tensor(uid),
        logit_action=torch.from_numpy(logits_of(uid))[None],
        LM_feat=torch.from_numpy(feature_of(uid)),
    )


def columns() -> dict[str, np.ndarray]:
    return {
        "uid": np.array(ALL),
        "logits": np.stack([logits_of(u) for u in ALL]),
        "feature": np.stack([feature_of(u) for u in ALL]),
    }


def write_torch(path: Path) -> None:
    torch.save([as_tensors(u) for u in ALL], path)


def write_old_torch(path: Path) -> None:
    torch.save([as_tensors(u) for u in ALL], path, _use_new_zipfile_serialization=False)


def write_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **columns())


def write_npz_as_the_paper_calls_it(path: Path) -> None:
    own = columns()
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            uid=own["uid"].astype("U"),
            logit_action=own["logits"][..., None].astype("f8"),
            LM_feat=own["feature"][:, None],
        )


def write_parquet(path: Path, *, wide: bool = False, fixed: bool = False) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = columns()
    kind = pa.list_(pa.float32(), CLASSES) if fixed else pa.list_(pa.float32())
    table = {"uid": own["uid"], "LM_feat": list(own["feature"])}
    if wide:
        table |= {str(c): own["logits"][:, c] for c in reversed(range(CLASSES))}
    else:
        table["logits"] = pa.array(list(own["logits"]), type=kind)
    pq.write_table(pa.table(table), path, row_group_size=7)


FORMS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "published pickle": ("pickle", lambda p: write(p, [entry(u) for u in ALL])),
    "pickle of tensors": ("pickle", lambda p: write(p, [as_tensors(u) for u in ALL])),
    "flat lists": (
        "pickle",
        lambda p: write(p, [entry(u, uid=str(u), logit_action=logits_of(u).tolist()) for u in ALL]),
    ),
    "columns": ("pickle", lambda p: write(p, columns())),
    "columns of lists": (
        "pickle",
        lambda p: write(p, {name: list(column) for name, column in columns().items()}),
    ),
    "torch.save": ("pickle", write_torch),
    "older torch.save": ("pickle", write_old_torch),
    "npz": ("npz", write_npz),
    "npz, other names": ("npz", write_npz_as_the_paper_calls_it),
    "parquet of lists": ("parquet", write_parquet),
    "parquet of fixed lists": ("parquet", lambda p: write_parquet(p, fixed=True)),
    "parquet, one column per class": ("parquet", lambda p: write_parquet(p, wide=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_targets(store: Store, tmp_path: Path, form: str) -> None:
    """The form is told by the content: the file has no ending."""
    name, make = FORMS[form]
    make(tmp_path / "file")
    targets, report = imported(store, tmp_path / "file")
    check_all(targets)
    assert report.files[0]["form"] == name
    assert report.files[0]["predictions"] == len(ALL)


def test_dictionary_of_logits_as_the_published_student_reads_it(
    store: Store, tmp_path: Path
) -> None:
    path = write(tmp_path / "f", {np.int64(u): torch.from_numpy(logits_of(u)) for u in ALL})
    targets, report = imported(store, path)
    np.testing.assert_array_equal(targets.logits, [logits_of(uid) for uid in ALL])
    assert targets.feature is None
    assert report.feature is None


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


def test_files_of_other_kinds(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"

    def refused(content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(AntcacheError, match=f"^{path}: ") as caught:
            imported(store, path)
        return str(caught.value)

    np.save(tmp_path / "x.npy", np.ones(3))
    assert "a single numpy array" in refused((tmp_path / "x.npy").read_bytes())
    assert "gzip" in refused(b"\x1f\x8b\x08 etc")
    assert "parquet" in refused(b"PAR1 and then nothing of the kind")
    assert "not a whole pickle" in refused(b"uid,logits\n1,2\n")
    assert "empty" in refused(b"")
    np.savez(tmp_path / "o.npz", uid=np.array(["1"]), logits=np.array([None], dtype=object))
    assert "object arrays are not read" in refused((tmp_path / "o.npz").read_bytes())
    np.savez(tmp_path / "p.npz", logits=np.ones((1, 6)))
    assert "expected a column uid, found 'logits'" in refused((tmp_path / "p.npz").read_bytes())
    npz = (tmp_path / "p.npz").read_bytes()
    assert "read" in refused(npz[: len(npz) // 2])
    with pytest.raises(NotFound, match="absent"):
        imported(store, tmp_path / "absent")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"uid": ["1"], "0": [1.0], "2": [1.0]}), path)
    assert "expected a column 1" in refused(path.read_bytes())
    pq.write_table(pa.table({"uid": ["1"], "logits": [1.0]}), path)
    assert "no column of lists" in refused(path.read_bytes())
    pq.write_table(pa.table({"uid": ["1"], "logits": [["a"] * 6]}), path)
    assert "logits is not numbers" in refused(path.read_bytes())


def test_a_hostile_pickle_writes_and_runs_nothing(store: Store, tmp_path: Path) -> None:
    proof = tmp_path / "proof"

    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {proof}",)

    path = write(tmp_path / "f.pkl", [entry(1), entry(2, LM_feat=Hostile())])
    with pytest.raises(RefusedPickle, match=r"found posix\.system \(nothing of it was run"):
        imported(store, path)
    assert not proof.exists()
    assert store.target_names() == []


def test_nothing_is_overwritten_unasked(store: Store, tmp_path: Path) -> None:
    first, second = write(tmp_path / "1", [entry(1)]), write(tmp_path / "2", [entry(2)])
    imported(store, first)
    with pytest.raises(AlreadyExists, match=r"targets/bert.*--overwrite"):
        imported(store, second)
    assert store.targets("bert").uid[store.targets("bert").valid].tolist() == ["1"]
    targets, _ = imported(store, second, overwrite=True)
    assert targets.uid[targets.valid].tolist() == ["2"]


def test_a_store_without_labels(tmp_path: Path) -> None:
    empty = Store.create(tmp_path / "empty.zarr")
    with pytest.raises(AntcacheError, match="no labels"):
        imported(empty, write(tmp_path / "f", [entry(1)]))


# The command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["import", "predictions", *map(str, arguments)])


def test_command(store: Store, tmp_path: Path) -> None:
    train = write(tmp_path / "train.pkl", [entry(u) for u in ALL[:11]])
    rest = write(tmp_path / "val.pkl", [entry(u) for u in ALL[12:]])
    dry = run(store.path, train, rest, "--name", "bert", "--dry-run", "--json")
    assert dry.exit_code == 0, dry.output
    assert json.loads(dry.stdout)["splits"]["train"]["missing"] == 1
    assert store.target_names() == []
    assert not Path(f"{store.path}.log").exists()
    done = run(store.path, train, rest, "--name", "bert", "--history", "complete")
    assert done.exit_code == 0, done.output
    assert "complete history, features 4 wide" in done.stdout
    assert "note: train: 1 without a prediction, 12 first" in done.stderr
    assert "train.pkl" in Path(f"{store.path}.log").read_text()
    again = run(store.path, train, "--name", "bert", "--overwrite", "--top-k", 3, "--json")
    assert again.exit_code == 0, again.output
    said = json.loads(again.stdout)
    assert said["attributes"]["form"] == "top-3"
    assert said["metrics"]["train"]["n"] == 11
    info = CliRunner().invoke(cli, ["store", "info", str(store.path)])
    assert info.exit_code == 0, info.output
    assert "imported" in info.stdout
    assert "top-3" in info.stdout


def test_predictions_of_another_anchor_say_so(store: Store, tmp_path: Path) -> None:
    """The file does not tell; without a word they count as those of the start."""
    path = write(tmp_path / "all.pkl", [entry(u) for u in ALL])
    assert "anchor" not in imported(store, path)[0].attributes
    done = run(store.path, path, "--name", "late", "--anchor", "end")
    assert done.exit_code == 0, done.output
    assert store.targets("late").attributes["anchor"] == 1
    assert score_targets(store, "late", "train").anchor == 1
    with pytest.raises(BadConfig, match="impossible anchor"):
        PredictionsConfig(name="x", anchor=2.0)


def test_command_refuses_in_one_line(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "f.pkl", [entry(900)])
    for arguments in (
        (store.path, path, "--name", "bert"),
        (store.path, tmp_path / "absent", "--name", "bert"),
        (store.path, path, "--name", "b/d"),
        (store.path, path, "--name", "bert", "--history", "some"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr


@pytest.mark.slow
def test_a_student_learns_from_imported_targets(store: Store, tmp_path: Path) -> None:
    """Unchanged: one segment has no prediction and is masked; features are in nobody's way."""
    store.create_stream("rgb", dim=4, dtype="float16", fps=4, source="made up", config={})
    rng = np.random.default_rng(0)
    for video in ("v1", "v2"):
        store.write_features("rgb", video, rng.normal(size=(200, 4)).astype(np.float16))
    path = write(tmp_path / "f.pkl", [entry(u) for u in ALL if u != 4])
    assert run(store.path, path, "--name", "bert").exit_code == 0
    small = ["--layers", 1, "--heads", 2, "--width", 16, "--epochs", 1, "--batch-size", 8]
    result = CliRunner().invoke(
        cli,
        ["student", "train", str(store.path), "--run", str(tmp_path / "run"), "--targets", "bert"]
        + [str(part) for part in [*small, "--device", "cpu"]],
    )
    assert result.exit_code == 0, result.output
    assert "masked: 0 absent, 1 not valid" in result.output
