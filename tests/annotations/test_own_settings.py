"""Single labels in tables of one's own, and windows that are kept with a dataset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from antcache.annotations import PROTOCOLS, Protocol, protocol_for, read_annotations
from antcache.annotations.protocols import WindowConfig
from antcache.api import Store as Front
from antcache.cli.main import cli
from antcache.doctor.examination import examine
from antcache.errors import BadAnnotations, DamagedStore
from antcache.evaluation.denominators import counted
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.scoring import Detail, evaluate
from antcache.evaluation.submission.segment_lists import read_unlabeled
from antcache.store import Store
from antcache.store.integrity.repair import repair
from antcache.store.integrity.verify import verify
from antcache.teacher.teach import history_for

HEAD = "uid,video,start,stop,action\n"
TRAIN = HEAD + "1,v,0,30,cut tomato\n2,v,30,60,mix\n3,w,15,75,cut tomato\n"
VAL = HEAD + "4,x,45,90,mix\n5,x,90,120,cut tomato\n"
OWN = Protocol(gap_s=0.5, num_frames=4, rate=2.0, anchor=0.5)
FLAGS = ["--fps", "30", "--gap", "0.5", "--num-frames", "4", "--anchor", "0.5", "--rate", "2"]


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_a_table_without_verb_and_noun_has_single_labels(write) -> None:
    folder = write({"train.csv": TRAIN, "val.csv": VAL})
    dataset = read_annotations("table", folder, fps=30.0)
    assert dataset.taxonomy.actions == ("cut tomato", "mix")
    assert not dataset.taxonomy.paired
    assert dataset.splits["train"].action.tolist() == [0, 1, 0]
    assert set(dataset.splits["train"].verb.tolist()) == {-1}
    numbers = {"train.csv": HEAD + "1,v,0,30,2\n2,v,30,60,0\n", "val.csv": HEAD + "4,x,45,90,0.0\n"}
    write(numbers | {"actions.csv": "id,name\n0,peel\n1,cut\n2,mix\n"})
    named = read_annotations("table", folder, fps=30.0)
    assert (named.taxonomy.actions, named.splits["train"].action.tolist()) == (
        ("peel", "cut", "mix"),
        [2, 0],
    )
    assert list(named.splits) == ["train", "validation"]


PAIRED = "uid,video,start,stop,verb,noun,action\n4,x,0,1,a,b,c\n"


@pytest.mark.parametrize(
    ("train", "other", "words"),
    [
        (
            "uid,video,start,stop\n1,v,0,1\n",
            {},
            "the header lacks verb, noun: .*or action in place",
        ),
        ("uid,video,start,stop,verb,action\n1,v,0,1,cut,x\n", {}, "the header lacks noun: "),
        (TRAIN, {"val.csv": PAIRED}, "only some files have a column 'verb'"),
        (HEAD + "1,v,0,1,7\n", {"actions.csv": "id,name\n0,a\n"}, "unknown action id: .*found 7"),
        (HEAD + "1,v,0,1,w\n", {"actions.csv": "id,name\n0,c\n"}, "a name of actions.csv"),
        (HEAD + "1,v,0,1,7\n2,v,1,2,cut\n", {}, "mixes ids and names"),
    ],
)
def test_tables_that_do_not_say_what_is_done_are_refused(write, train, other, words) -> None:
    with pytest.raises(BadAnnotations, match=words):
        read_annotations("table", write({"train.csv": train, **other}))


@pytest.fixture
def store(write, tmp_path: Path) -> Store:
    """Imported with windows of its own."""
    path = tmp_path / "own.zarr"
    result = run(
        "annotations", "import", "table", write({"train.csv": TRAIN, "val.csv": VAL}), path, *FLAGS
    )
    assert result.exit_code == 0, result.output
    return Store.open(path)


def test_what_was_given_at_import_is_usual_from_then_on(store: Store, tmp_path: Path) -> None:
    assert (store.protocol, store.list_fps) == (OWN, 30.0)
    assert verify(store).intact
    assert (history_for(store).gap_s, history_for(store).anchor) == (0.5, 0.5)
    assert (
        history_for(store, gap_s=2.0, anchor=0.0).gap_s,
        history_for(store, anchor=0.0).anchor,
    ) == (2.0, 0.0)
    assert WindowConfig(gap_s=2.0, anchor=0.0).over(store.protocol) == Protocol(
        gap_s=2.0, num_frames=4, rate=2.0
    )
    store.create_stream("rgb", dim=2, dtype="float32", fps=4.0, source="", config={})
    for video in ("v", "w", "x"):
        store.write_features("rgb", video, np.zeros((60, 2), np.float32))
    assert examine(store).protocol["gap_s"] == 0.5
    windows = Front.open(store.path).windows("validation")
    assert len(windows) == 2
    segments = store.labels("validation")
    predictions = Predictions(
        uid=segments.uid,
        split="validation",
        scores=np.zeros((2, 2), np.float32),
        taxonomy=store.taxonomy.fingerprint,
        anchor=0.5,
    )
    sheet = evaluate(store, predictions, "p", detail=Detail()).sheet
    assert sheet is not None
    assert sheet.counted["avt"].n == counted(segments, "avt", OWN).sum()
    asked = tmp_path / "asked.csv"
    asked.write_text("uid,video,start,stop\n9,x,45,90\n")
    for given, start_s in (({}, 1.5), ({"fps": 15.0}, 3.0)):
        listed = read_unlabeled(asked, usual_fps=store.list_fps, **given)
        assert listed.start_s.tolist() == [start_s]
    words = ("--kind", "count", "--name", "count", "--folds", 2, "--json")
    taught = run("teacher", "train", store.path, *words)
    assert taught.exit_code == 0, taught.output
    assert json.loads(taught.stdout)["anchor"] == "0.5"
    assert store.targets("count").attributes["gap_s"] == 0.5


def test_other_settings_need_overwrite_and_the_same_change_nothing(store: Store, write) -> None:
    folder, before = write({}), (store.path / "labels" / "zarr.json").read_bytes()
    again = ("annotations", "import", "table", folder, store.path, "--fps", 30)
    assert run(*again).exit_code == 0  # none are given: those that are stored stay
    assert run(*again, *FLAGS[2:]).exit_code == 0
    assert (store.path / "labels" / "zarr.json").read_bytes() == before
    refused = run(*again, "--gap", 2)
    assert refused.exit_code == 2
    assert "the store has other settings (protocol): expected {'gap_s': 0.5" in refused.stderr
    assert store.protocol == OWN
    assert run(*again, "--gap", 2, "--overwrite").exit_code == 0
    assert Store.open(store.path).protocol == Protocol(gap_s=2.0, num_frames=10, rate=2.0)


def test_settings_come_to_labels_that_are_there_and_no_other_labels_with_them(
    write, tmp_path: Path
) -> None:
    path, folder = tmp_path / "plain.h5", write({"train.csv": TRAIN, "val.csv": VAL})
    words = ("annotations", "import", "table", folder, path, "--fps", 30)
    assert run("annotations", "import", "table", folder, path).exit_code == 0
    assert Store.open(path).protocol == protocol_for("table")
    write({"train.csv": TRAIN + "6,w,80,90,mix\n"})
    refused = run("annotations", "import", "table", folder, path, "--gap", 2)
    assert refused.exit_code == 2
    assert "the store has other labels of train" in refused.stderr
    assert len(Store.open(path).labels("train")) == 3
    write({"train.csv": TRAIN})
    assert run("annotations", "import", "table", folder, path, "--gap", 2).exit_code == 0
    store = Store.open(path)
    assert (store.protocol.gap_s, store.list_fps) == (2.0, None)
    (path / "labels" / "attributes.json").write_text("{}")
    repair(Store.open(path))
    assert Store.open(path).protocol.gap_s == 2.0  # units say what their group was
    assert run(*words, "--gap", "nan").exit_code == 2


WHOLE = {"gap_s": 1.0, "num_frames": 10, "rate": 2.0, "parity": "exact", "anchor": 0.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("protocol", 3),
        ("protocol", {"gap_s": 1.0}),
        *(
            ("protocol", WHOLE | wrong)
            for wrong in (
                {"num_frames": 10**9},
                {"parity": "none"},
                {"gap_s": -1.0},
                {"gap_s": []},
                {"parity": "avt", "anchor": 1.0},
                {"more": 1},
            )
        ),
        ("list_fps", 0),
        ("list_fps", "30"),
        ("list_fps", True),
    ],
)
def test_settings_from_anybody_are_checked(store: Store, name: str, value: object) -> None:
    store.backend.set_group_attributes("labels", {name: value})
    there = Store.open(store.path)
    with pytest.raises(DamagedStore, match=r"no settings of windows|a rate that can't be"):
        _ = there.protocol, there.list_fps
    assert not verify(there).intact


def test_published_sets_have_their_own(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", dataset="egtea")
    assert (store.protocol, store.list_fps) == (PROTOCOLS["egtea"], None)
