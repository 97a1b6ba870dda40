"""Units whose bytes are right and whose meaning is not: refused when they are read, named by
`verify`, and left where they are by `repair`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from shelves import KINDS, Shelf, in_turn

from antcache.annotations import Segments, Taxonomy
from antcache.cli.main import cli
from antcache.errors import BadAnnotations, BadConfig, DamagedStore
from antcache.store import SoftTargets, Store
from antcache.store.backend import KEY
from antcache.store.integrity.convert import convert
from antcache.store.integrity.info import describe
from antcache.store.integrity.repair import repair
from antcache.store.integrity.verify import verify
from antcache.store.seal import attributes_of

TAXONOMY = Taxonomy(
    dataset="toy",
    verbs=("take", "put"),
    nouns=("pan",),
    actions=("take pan", "put pan"),
    action_verbs=(0, 1),
    action_nouns=(0, 0),
)
SEGMENTS = Segments.of(
    uid=["a", "b", "c"],
    video=["v1", "v1", "v2"],
    start_s=[0.0, 1, 0],
    stop_s=[1.0, 2, 3],
    verb=[0, 1, 0],
    noun=[0, 0, 0],
    action=[0, 1, 0],
)
ROWS = np.arange(30, dtype=np.float16).reshape(10, 3)
TARGETS = SoftTargets(
    uid=SEGMENTS.uid,
    valid=np.ones(3, bool),
    logits=np.arange(6, dtype=np.float32).reshape(3, 2),
    attributes={"taxonomy": TAXONOMY.fingerprint},
)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path, shelf: Shelf) -> Store:
    kind = request.param
    return shelf.store(tmp_path / "store", ("meaning", kind), lambda path: write(path, kind))


def write(path: Path, kind: str) -> None:
    """Labels, two streams of two videos, and soft targets in both forms."""
    store = Store.create(path, backend=kind)
    for name in ("rgb", "flow"):
        settings: dict[str, Any] = {"dim": 3, "dtype": "float16", "fps": 4, "source": "x"}
        store.create_stream(name, **settings, config={"name": name})
        for video in ("v1", "v2"):
            store.write_features(name, video, ROWS, times=np.arange(10) / 4.0)
    others = replace(SEGMENTS, uid=np.char.add("other ", SEGMENTS.uid))
    store.write_splits({"train": SEGMENTS, "validation": others}, TAXONOMY, source="x")
    store.write_targets("dense", TARGETS)
    store.write_targets("sparse", TARGETS.top_k(1))


def again(store: Store, key: str, arrays: dict[str, Any] | None = None, **attributes: Any) -> None:
    """Publish a unit anew, with right checksums, as a careless or hostile tool might."""
    there, own = store.backend.read(key)
    new = {name: a for name, a in {**there, **(arrays or {})}.items() if a is not None}
    store.backend.publish(key, new, {**own, **attributes}, overwrite=True)


def read(store: Store, key: str) -> Any:
    kind, _, rest = key.partition("/")
    if kind == "features":
        return store.features(*rest.split("/")).read()
    return store.labels(rest) if kind == "labels" else store.targets(rest)


LABELS: dict[str, tuple[dict[str, Any], str]] = {
    "an id past the classes": ({"action": np.array([0, 1, 2])}, "unknown action id.*found 2"),
    "a negative id": ({"verb": np.array([0, 1, -1])}, "segment 2: unknown verb id"),
    "a verb of another action": ({"verb": np.array([0, 0, 0])}, "has another verb or noun"),
    "a uid twice": ({"uid": np.array(["a", "b", "a"])}, "the uid is used twice"),
    "no number": ({"stop_s": np.array([1, np.nan, 3])}, "not a number"),
    "of no video": ({"stop_s": np.array([1.0, 2.0, 1e300])}, "a time that no video has"),
    "without end": ({"uid": np.array(["a", "b", "c" * 256])}, "a uid as long as no name"),
    "backwards": ({"stop_s": np.array([1.0, 0.5, 3])}, "stops before it starts"),
    "unequal lengths": ({"noun": np.array([0])}, "columns of unequal length"),
    "a column less": ({"noun": None}, "no labels of segments"),
    "a column more": ({"more": np.array([0, 0, 0])}, "no labels of segments"),
    "numbers for names": ({"video": np.array([1, 2, 3])}, "no labels of segments"),
    "names for numbers": ({"action": np.array(["0", "1", "0"])}, "no labels of segments"),
    "two dimensions": ({"noun": np.zeros((3, 2), int)}, "no labels of segments"),
}
FEATURES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another width": ({"rows": np.zeros((10, 4), np.float16)}, {}, r"expected float16 \(rows, 3\)"),
    "another type": ({"rows": ROWS.astype(np.float32)}, {}, "found float32"),
    "one dimension": ({"rows": ROWS[:, 0]}, {}, "rows of another kind"),
    "no rows": ({"rows": None}, {}, "no features of a video"),
    "other arrays": ({"more": ROWS}, {}, "no features of a video"),
    "fewer times": ({"times": np.arange(9) / 4.0}, {}, "times that are not those of its rows"),
    "other times": ({"times": np.arange(10)}, {}, "times that are not those of its rows"),
    "times that stand still": ({"times": np.zeros(10)}, {}, "times that do not ascend"),
    "times that are none": ({"times": np.full(10, np.inf)}, {}, "times that do not ascend"),
    "another number of rows": ({}, {"num_rows": 11}, "number of rows that can't be"),
    "no rate": ({}, {"fps": 0}, "a rate, a start"),
    "a rate of text": ({}, {"fps": "4"}, "a rate, a start"),
    "a start of truth": ({}, {"start_s": True}, "a rate, a start"),
    "no start": ({}, {"start_s": None}, "a rate, a start"),
    "other settings": ({}, {"fingerprint": "0" * 32}, "made with other settings than its stream"),
}
SOFT: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "more classes": ("dense", {"logits": np.zeros((3, 3), np.float32)}, {}, "expected 2, found 3"),
    "an index past": ("sparse", {"index": np.full((3, 1), 2, np.int32)}, {}, "0 to 1, found 2"),
    "a negative index": ("sparse", {"index": np.full((3, 1), -1, np.int32)}, {}, "found -1"),
    "other classes": ("dense", {}, {"taxonomy": "0" * 32}, "for other classes"),
    "no tail": ("sparse", {"tail": None}, {}, "neither logits"),
    "a stray index": ("dense", {"index": np.zeros((3, 1), np.int32)}, {}, "neither logits"),
    "more classes than logits": (
        "sparse",
        {"index": np.zeros((3, 2), np.int32)},
        {},
        "unequal shape",
    ),
    "both forms": ("sparse", {"logits": TARGETS.logits}, {}, "neither logits"),
    "fewer": ("dense", {"valid": np.ones(2, bool)}, {}, "unequal length"),
    "no validity": ("dense", {"valid": None}, {}, "no soft targets"),
    "a validity of numbers": ("dense", {"valid": np.ones(3)}, {}, "no soft targets"),
    "one dimension": ("dense", {"logits": np.zeros(3, np.float32)}, {}, "no soft targets"),
    "uids of bytes": ("dense", {"uid": np.array([1, 2, 3])}, {}, "expected text.*found int64"),
    "moments of numbers": ("dense", {"moment": np.arange(3)}, {}, "moment of another type"),
    "moments of one": ("dense", {"moment": np.array(["0 1 v1"])}, {}, "unequal length"),
    **{
        f"a moment {text!r:.20}": (
            "dense",
            {"moment": np.array(["0 1 v1", "1 nan v1", text])},
            {},
            "no stretch of a video.*`start stop video`, found '",
        )
        for text in ("", "0 1", "0", "a 1 v", "0 b v", "nan 1 v", "inf 1 v", "0 1 " + "v" * 256)
    },
    "a uid twice": (
        "dense",
        {"uid": np.array(["a", "b", "a"])},
        {},
        "for one segment.*each uid once, found 'a' 2 times",
    ),
}
OTHER_TYPES: dict[str, tuple[str, dict[str, Any], str]] = {
    "wider logits": (
        "dense",
        {"logits": np.zeros((3, 2))},
        r"logits of another type.*expected float32 .*found float64 \(3, 2\)",
    ),
    "a wider index": ("sparse", {"index": np.zeros((3, 1), int)}, "expected int32.*int64"),
    "a wider tail": ("sparse", {"tail": np.zeros(3)}, "tail of another type"),
    "a feature of halves": ("dense", {"feature": np.zeros((3, 1), np.float16)}, "float16"),
}
F32 = np.float32
UNSAYABLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "NaN": (
        "dense",
        {"logits": F32([[0, 1], [0, np.nan], [0, 1]])},
        "logits of a valid row.*or -inf for some of the classes, found NaN for the segment 'b'",
    ),
    "+inf": ("dense", {"logits": F32([[0, np.inf], [0, 0], [0, 1]])}, r"\+inf for the segment 'a'"),
    "-inf": ("dense", {"logits": F32([[0, 0], [0, 0], [-np.inf] * 2])}, "-inf for the segment 'c'"),
    "of the best": ("sparse", {"logit": F32([[0], [np.nan], [0]])}, "logit of a valid row"),
    "a tail": ("sparse", {"tail": F32([0, 0, np.nan])}, "tail of a valid row.*'c'"),
}
ALL = [("labels/validation", arrays, {}, said) for arrays, said in LABELS.values()]
ALL += [("labels/validation", {}, {"taxonomy": "0" * 32}, "other classes than the store's")]
ALL += [("features/rgb/v1", arrays, own, said) for arrays, own, said in FEATURES.values()]
ALL += [(f"targets/{name}", arrays, own, said) for name, arrays, own, said in SOFT.values()]


@pytest.mark.parametrize(("store", "case"), in_turn(ALL), indirect=["store"])
def test_what_makes_no_sense_is_refused_and_left(
    store: Store, case: tuple[str, dict[str, Any], dict[str, Any], str]
) -> None:
    key, arrays, attributes, said = case
    again(store, key, arrays, **attributes)
    with pytest.raises(DamagedStore, match=said) as caught:
        read(store, key)
    assert key in str(caught.value)
    assert "write it again, or remove it" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    report = verify(store)
    assert [(f.key, f.what) for f in report.damaged] == [(key, "meaning")]
    assert str(caught.value) in report.damaged[0].why
    actions = repair(store).actions
    assert [(action.key, action.done) for action in actions] == [(key, "left")]
    assert store.backend.has(key)
    store.remove(key)
    assert verify(store).intact


@pytest.mark.parametrize(("store", "name"), in_turn(OTHER_TYPES), indirect=["store"])
def test_targets_of_other_types_are_read_as_what_they_mean(store: Store, name: str) -> None:
    """They once could be written. They can't be now, and `verify` names them."""
    which, arrays, said = OTHER_TYPES[name]
    with pytest.raises(BadConfig, match=said):
        store.write_targets("new", replace(store.targets(which), **arrays))
    again(store, f"targets/{which}", arrays)
    for array, values in arrays.items():
        found = getattr(store.targets(which), array)
        np.testing.assert_array_equal(found, values)
        assert found.dtype == (np.int32 if array == "index" else np.float32)
    report = verify(store)
    assert [(f.key, f.what) for f in report.damaged] == [(f"targets/{which}", "meaning")]
    with pytest.raises(DamagedStore, match=said):
        store.check(f"targets/{which}")


@pytest.mark.parametrize(("store", "name"), in_turn(UNSAYABLE), indirect=["store"])
def test_values_that_no_teacher_says(
    store: Store, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither written nor called intact nor copied; where a row is not valid they mean nothing."""
    monkeypatch.setattr("antcache.store.meaning.CHUNK_BYTES", 8)  # a row or two at once
    which, arrays, said = UNSAYABLE[name]
    wrong = replace(store.targets(which), **arrays)
    with pytest.raises(BadConfig, match=said) as caught:
        store.write_targets("new", wrong)
    assert "targets/new" in str(caught.value)
    assert store.target_names() == ["dense", "sparse"]
    store.write_targets("masked", replace(wrong, valid=np.zeros(3, bool)))
    assert verify(store).intact
    again(store, f"targets/{which}", arrays)
    report = verify(store)
    assert [(f.key, f.what) for f in report.damaged] == [(f"targets/{which}", "meaning")]
    with pytest.raises(DamagedStore, match=said):
        convert(store, tmp_path / "copy")


def test_teachers_may_exclude_classes_and_lack_features(store: Store) -> None:
    logits = np.array([[0, -np.inf], [-np.inf, 1], [0, 1]], np.float32)
    excluding = replace(TARGETS, logits=logits, feature=F32([[1], [np.nan], [1]]))
    store.write_targets("excluding", excluding)
    store.write_targets("best", excluding.top_k(2))
    assert store.targets("best").tail is not None
    assert verify(store).intact


def test_targets_of_another_order_of_bytes(store: Store) -> None:
    """They are the same targets, whoever wrote them so."""
    for name in ("dense", "sparse"):
        known = store.targets(name)
        swapped = {n: a.astype(a.dtype.newbyteorder(">")) for n, a in known.arrays().items()}
        store.write_targets("swapped", replace(known, **swapped), overwrite=True)
        for key, array in store.targets("swapped").arrays().items():
            assert array.dtype.isnative
            np.testing.assert_array_equal(array, getattr(known, key))
        if store.kind == "hdf5":  # as another tool may write it; a Zarr array says little
            again(store, f"targets/{name}", swapped)
            assert all(array.dtype.isnative for array in store.targets(name).arrays().values())
    assert verify(store).intact


@pytest.mark.parametrize("case", [ALL[0], ALL[15], ALL[-1]])
def test_what_makes_no_sense_is_not_copied(store: Store, tmp_path: Path, case: Any) -> None:
    key, arrays, attributes, said = case
    again(store, key, arrays, **attributes)
    with pytest.raises(DamagedStore, match=said):
        convert(store, tmp_path / "copy")


CLASSES: dict[str, dict[str, Any]] = {
    "names that are numbers": {"verbs": [1, 2]},
    "a name alone": {"nouns": "pan"},
    "ids that are texts": {"action_verbs": ["0", "1"]},
    "ids that are halves": {"action_verbs": [0, 0.5]},
    "ids past the names": {"action_verbs": [0, 2]},
    "fewer ids": {"action_nouns": [0]},
    "no names": {"actions": None},
    "a key more": {"more": [1]},
    "no dataset": {"dataset": None},
}


@pytest.mark.parametrize(("store", "name"), in_turn(CLASSES), indirect=["store"])
def test_classes_that_make_no_sense(store: Store, name: str) -> None:
    there = store.backend.group_attributes("labels")["taxonomy"]
    store.backend.set_group_attributes("labels", {"taxonomy": {**there, **CLASSES[name]}})
    for use in (
        lambda: store.taxonomy,
        lambda: store.labels("train"),
        lambda: store.targets("dense"),
    ):
        with pytest.raises(DamagedStore, match="labels: the classes make no sense"):
            use()
    assert {(f.key, f.what) for f in verify(store).damaged} == {("labels", "meaning")}
    assert repair(store).intact  # both splits carry what they were
    assert store.taxonomy == TAXONOMY


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ids past the names", "unknown verb id: expected 0 to 1, found 2"),
        ("fewer ids", "expected 2 of each, found 2 verbs and 1 nouns"),
        ("a key more", "'more'"),
    ],
)
def test_it_is_said_why_classes_make_no_sense(store: Store, name: str, reason: str) -> None:
    there = store.backend.group_attributes("labels")["taxonomy"]
    store.backend.set_group_attributes("labels", {"taxonomy": {**there, **CLASSES[name]}})
    with pytest.raises(DamagedStore, match=rf"the classes make no sense \(.*{reason}"):
        _ = store.taxonomy


@pytest.mark.parametrize("fields", [[], "toy", 7])
def test_classes_that_are_none(store: Store, fields: Any) -> None:
    store.backend.set_group_attributes("labels", {"taxonomy": fields})
    with pytest.raises(DamagedStore, match="the classes make no sense"):
        _ = store.taxonomy


def test_classes_of_another_dataset(store: Store) -> None:
    store.backend.set_group_attributes("", {"dataset": "other"})
    with pytest.raises(
        DamagedStore, match=r"classes of another dataset .*expected other, found toy"
    ):
        store.labels("train")


STREAMS: dict[str, dict[str, Any]] = {
    "another width": {"dim": 4},
    "a width of truth": {"dim": True},
    "a width of text": {"dim": "3"},
    "no rate": {"fps": None},
    "a rate of nothing": {"fps": 0},
    "another type": {"dtype": "float64"},
    "a source of numbers": {"source": 3},
    "no settings": {"config": []},
    "other settings": {"config": {"name": "other"}},
    "packed perhaps": {"compressed": "yes"},
    "a gap of text": {"step_s": "1"},
    "a gap of nothing": {"max_age_s": -1},
    "no fingerprint": {"fingerprint": None},
}


@pytest.mark.parametrize(("store", "name"), in_turn(STREAMS), indirect=["store"])
def test_settings_of_a_stream_that_make_no_sense(store: Store, name: str) -> None:
    store.backend.set_group_attributes("features/rgb", STREAMS[name])
    stream, features = partial(store.stream, "rgb"), partial(store.features, "rgb", "v1")
    for use in (stream, features, partial(describe, store)):
        with pytest.raises(DamagedStore, match=r"features/rgb: .*(settings|fingerprint)"):
            use()
    assert store.features("flow", "v1").num_rows == 10
    assert {(f.key, f.what) for f in verify(store).damaged} == {("features/rgb", "meaning")}
    assert repair(store).intact  # all videos carry what they were
    assert store.stream("rgb").dim == 3


def test_a_group_that_makes_no_sense_and_that_nobody_knows_is_left(store: Store) -> None:
    """Nothing that is stored is thrown away for it."""
    for video in store.videos("rgb"):
        store.remove(f"features/rgb/{video}")
    store.backend.set_group_attributes("features/rgb", {"dim": "3"})
    report = repair(store)
    assert [(a.key, a.done) for a in report.actions] == [("features/rgb", "left")]
    assert store.streams() == ["flow", "rgb"]


# Exchanged


def test_group_files_that_were_exchanged(store: Store) -> None:
    files = [
        Path(store.path) / key / store.backend.group_file
        for key in ("features/rgb", "features/flow")
    ]
    texts = [file.read_bytes() for file in files]
    for file, text in zip(files, reversed(texts), strict=True):
        file.write_bytes(text)
    with pytest.raises(DamagedStore, match=r"the file of another group \('features/flow'\)"):
        store.stream("rgb")
    assert {f.key for f in verify(store).damaged} == {"features/rgb", "features/flow"}
    assert repair(store).intact
    assert [file.read_bytes() for file in files] == texts


def test_old_group_files_that_were_exchanged(tmp_path: Path, repo: Path) -> None:
    """Those of an earlier version do not say whose they are; their videos do."""
    for kind in ("zarr", "hdf5"):
        shutil.copytree(repo / "tests/golden/format-1" / kind, tmp_path / kind)
        store = Store.open(tmp_path / kind)
        files = [
            tmp_path / kind / key / store.backend.group_file
            for key in ("features/rgb", "features/flow")
        ]
        texts = [file.read_bytes() for file in files]
        for file, text in zip(files, reversed(texts), strict=True):
            file.write_bytes(text)
        for stream in ("rgb", "flow"):
            with pytest.raises(DamagedStore, match="made with other settings than its stream"):
                store.features(stream, "t0")
        report = repair(store)
        assert report.intact
        assert {(a.key, a.done) for a in report.actions} == {
            ("features/rgb", "restored"),
            ("features/flow", "restored"),
        }
        for file, text in zip(files, texts, strict=True):
            found = attributes_of(file.read_bytes())
            assert found.pop(KEY) in ("features/rgb", "features/flow")
            assert found == attributes_of(text)
        assert verify(store).intact


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("features/rgb/v1", "features/rgb/v2"),
        ("features/rgb/v1", "features/flow/v1"),
        ("labels/train", "labels/validation"),
        ("targets/dense", "targets/sparse"),
    ],
)
def test_units_that_were_exchanged(store: Store, one: str, other: str) -> None:
    paths = [store.backend.location(key) for key in (one, other)]
    aside = paths[0].with_name("aside")
    for source, target in ((paths[0], aside), (paths[1], paths[0]), (aside, paths[1])):
        source.rename(target)
    for key, own in ((one, other), (other, one)):
        with pytest.raises(DamagedStore, match=f"{key}: another unit stands here: found '{own}'"):
            read(store, key)
    assert {(f.key, f.what) for f in verify(store).damaged} == {(one, "place"), (other, "place")}
    report = repair(store)
    assert {(a.key, a.done) for a in report.actions} == {(one, "left"), (other, "left")}


def test_a_unit_of_an_earlier_version_says_no_key(tmp_path: Path, repo: Path) -> None:
    """It is read; a new one beside it says its own."""
    shutil.copytree(repo / "tests/golden/format-1/zarr", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    rows = store.features("rgb", "t0").read()
    store.write_features("rgb", "new", rows)
    for video, key in (("t0", None), ("new", "features/rgb/new")):
        text = (tmp_path / "store/features/rgb" / video / "zarr.json").read_bytes()
        assert attributes_of(text).get(KEY) == key
    assert verify(store).intact
    assert KEY not in store.backend.open("features/rgb/new")[1]


# Writing keeps to what reading asks for


def test_nothing_is_written_that_could_not_be_read(store: Store) -> None:
    for name in (
        "an id past the classes",
        "a negative id",
        "a uid twice",
        "no number",
        "backwards",
    ):
        arrays, said = LABELS[name]
        wrong = Segments.of(**{**SEGMENTS.arrays(), **arrays})
        with pytest.raises(BadAnnotations, match=said):
            store.write_labels("new", wrong, TAXONOMY, source="x")
    assert store.splits() == ["train", "validation"]
    wide = replace(TARGETS, logits=np.zeros((3, 3), np.float32))
    with pytest.raises(BadConfig, match="another number of classes: expected 2, found 3"):
        store.write_targets("wide", wide)
    for name in ("uids of bytes", "a uid twice"):
        which, arrays, _, said = SOFT[name]
        with pytest.raises(BadConfig, match=said):
            store.write_targets("new", replace(store.targets(which), **arrays))
    assert store.target_names() == ["dense", "sparse"]
    long = {"text": "x" * (17 << 20)}
    with pytest.raises(BadConfig, match="attributes that no store takes"):
        store.write_features("rgb", "new", ROWS, attributes=long)
    with pytest.raises(BadConfig, match="attributes that no store takes"):
        store.create_stream("new", dim=1, dtype="float16", fps=1, source="x", config=long)
    assert (store.videos("rgb"), store.streams()) == (["v1", "v2"], ["flow", "rgb"])


def test_commands_say_it_in_one_line(store: Store, tmp_path: Path) -> None:
    again(store, "labels/validation", {"action": np.array([0, 1, 2])})
    commands: dict[str, Callable[[], list[str]]] = {
        "evaluate": lambda: ["evaluate", str(store.path), "--targets", "dense"],
        "teacher": lambda: ["teacher", "score", str(store.path), "dense"],
        "info": lambda: ["store", "info", str(store.path)],
        "doctor": lambda: ["store", "doctor", str(store.path)],
    }
    for name, words in commands.items():
        result = CliRunner().invoke(cli, words())
        assert (name, result.exit_code) == (name, 2)
        assert "segment 2: unknown action id" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    result = CliRunner().invoke(cli, ["store", "verify", str(store.path), "--json"])
    assert result.exit_code == 1
    (finding,) = json.loads(result.stdout)["damaged"]
    assert (finding["key"], finding["what"]) == ("labels/validation", "meaning")
    result = CliRunner().invoke(cli, ["store", "verify", str(store.path)])
    assert "segment 2: unknown action id" in result.stdout
