"""CaptainCook4D, Ego4D, Assembly101 and EGTEA's own lists, in files of their published forms.

Only CaptainCook4D's real files are at hand: the others are as their authors' pages and readers
describe them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.annotations import read_annotations
from antcache.cli.main import cli
from antcache.errors import BadAnnotations, BadConfig, NotFound
from antcache.store import Store

COOK, DESCRIBED = "complete_step_annotations.json", "step_idx_description.csv"
NORMAL = "recordings_data_split_normal.json"


def step(number: int, start: float, stop: float, **more: Any) -> dict[str, Any]:
    return {"step_id": number, "start_time": start, "end_time": stop, "has_errors": False, **more}


def clip(uid: str, idx: int, start: float, stop: float, verb: int, noun: int) -> dict[str, Any]:
    return {
        "clip_uid": uid,
        "action_idx": idx,
        "action_clip_start_sec": start,
        "action_clip_end_sec": stop,
        "verb_label": verb,
        "noun_label": noun,
        "video_uid": "whole",
    }


FINE = "id,video,start_frame,end_frame,action_id,verb_id,noun_id,action_cls,toy_id\n"
ACTIONS = "action_id,verb_id,noun_id,action_cls,verb_cls,noun_cls\n"
COARSE = ACTIONS + "1,0,1,attach wheel,attach,wheel\n0,2,0,inspect cabin,inspect,cabin\n"
FORMS: dict[str, dict[str, str]] = {
    "captaincook4d": {
        COOK: json.dumps(
            {
                "1_7": {"steps": [step(3, 7.5, 46), step(1, 50.25, 82, has_errors=True)]},
                "1_8": {"steps": [step(1, 0.5, 1), step(3, -1.0, -1.0)]},
                "9_9": {"steps": []},
            }
        ),
        DESCRIBED: '"step_idx","step_description"\n"1","Pour-Pour 1 egg"\n"3","Coat -Coat a cup"\n',
        NORMAL: json.dumps({"train": ["1_7"], "val": ["1_8"]}),
    },
    "ego4d-lta": {
        "fho_lta_train.json": json.dumps(
            {"version": "1", "clips": [clip("c", 0, 0, 8, 1, 0), clip("c", 1, 4.5, 12.5, 0, 2)]}
        ),
        "fho_lta_val.json": json.dumps({"clips": [clip("d", 0, 1.0, 9, 1, 2)]}),
        "fho_lta_test_unannotated.json": json.dumps({"clips": [{"clip_uid": "e"}]}),
        "fho_lta_taxonomy.json": json.dumps({"verbs": ["put", "take"], "nouns": ["a", "b", "c"]}),
    },
    "assembly101": {
        "actions.csv": "id,"
        + ACTIONS
        + "7,1,0,1,put wheel,put,wheel\n8,0,2,0,clap hand,clap,hand\n",
        "train.csv": FINE
        + "0,s/C1_rgb.mp4,84,111,0,2,0,clap hand,a30\n0b,s/e1.mp4,84,111,0,2,0,clap hand,a30\n",
        "validation.csv": FINE + "0,t/C1_rgb.mp4,30,60,1,0,1,put wheel,b\n",
        "test.csv": "id,video,start_frame,end_frame\n0,u/C1_rgb.mp4,1,2\n",
    },
    "assembly101-coarse": {
        "actions.csv": COARSE,
        "coarse_splits/train_coarse_assembly.txt": "assembly_s.txt\tnotshared\ta30\tsuv\n",
        "coarse_splits/train_coarse_disassembly.txt": "disassembly_s.txt\tnotshared\ta30\tsuv\n",
        "coarse_splits/val_coarse_assembly.txt": "assembly_t.txt\tshared\tb\tx\n",
        "coarse_splits/validation_coarse_disassembly.txt": "disassembly_t.txt shared b x\n",
        "coarse_splits/test_coarse_assembly.txt": "assembly_u.txt\tshared\n",
        "coarse_labels/assembly_s.txt": "000000030\t000000060\tattach wheel\n",
        "coarse_labels/disassembly_s.txt": "000000090\t000000120\tinspect cabin\n",
        "coarse_labels/assembly_t.txt": "30 45 inspect cabin\n",
        "coarse_labels/disassembly_t.txt": "60 75 attach wheel\n",
    },
    "egtea-original": {
        "raw_annotations/action_labels.csv": "# Clip ID; Clip Prefix; ...\n"
        "001; P1-R1-Pasta-1500-2750-F36-F66; P1-R1-Pasta; 1500; 2750; Open fridge; Open; fridge\n"
        "2;P1-R1-Pasta-3001-4000-F72-F96;P1-R1-Pasta;3001;4000;Put cup, plate;Put;cup, plate\n"
        "3;P2-R1-Pasta-1-999-F1-F23;P2-R1-Pasta;1;999;Open fridge;Open;fridge\n",
        "train_split1.txt": "P1-R1-Pasta-1500-2750-F36-F66 1 2 1\n"
        "P1-R1-Pasta-3001-4000-F72-F96 2 1 3 4\n",
        "test_split1.txt": "P2-R1-Pasta-1-999-F1-F23 1 2 1\n",
    },
}
Write = Callable[..., Path]


@pytest.fixture
def form(tmp_path: Path) -> Write:
    def write(set_name: str, changes: dict[str, str | None] | None = None) -> Path:
        for name, text in {**FORMS[set_name], **(changes or {})}.items():
            path = tmp_path / set_name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                path.write_text(text, "utf-8")
        return tmp_path / set_name

    return write


EXPECTED: dict[str, tuple[Any, ...]] = {
    # verbs, nouns, actions; uid, video, start, stop, action by split; notes
    "captaincook4d": (
        (0, 0, ("Pour-Pour 1 egg", "Coat -Coat a cup")),
        {
            "train": [("1_7-0", "1_7", 7.5, 46, 1), ("1_7-1", "1_7", 50.25, 82, 0)],
            "validation": [("1_8-0", "1_8", 0.5, 1, 0)],
        },
        ["no segments: 1", "with an error, and are kept: 1", "left out (1): 9_9"],
    ),
    "ego4d-lta": (
        (2, 3, ("put c", "take a", "take c")),
        {
            "train": [("c_0", "c", 0, 8, 1), ("c_1", "c", 4.5, 12.5, 0)],
            "validation": [("d_0", "d", 1, 9, 2)],
        },
        ["fho_lta_test_unannotated.json: 1 segments without labels passed over"],
    ),
    "assembly101": (
        (3, 2, ("clap hand", "put wheel")),
        {
            "train": [
                ("train-0", "s_C1_rgb", 2.8, 3.7, 0),
                ("train-0b", "s_e1", 2.8, 3.7, 0),
            ],
            "validation": [("validation-0", "t_C1_rgb", 1, 2, 1)],
        },
        ["test.csv: 1 rows passed over"],
    ),
    "assembly101-coarse": (
        (3, 2, ("inspect cabin", "attach wheel")),
        {
            "train": [("assembly_s_1", "s", 1, 2, 1), ("disassembly_s_1", "s", 3, 4, 0)],
            "validation": [("assembly_t_1", "t", 1, 1.5, 0), ("disassembly_t_1", "t", 2, 2.5, 1)],
        },
        ["1 sequences of the test split"],
    ),
    "egtea-original": (
        (2, 3, ("Open fridge", "Put cup, plate")),
        {
            "train": [("1", "P1-R1-Pasta", 1.5, 2.75, 0), ("2", "P1-R1-Pasta", 3.001, 4, 1)],
            "validation": [("3", "P2-R1-Pasta", 0.001, 0.999, 0)],
        },
        ["1 clips have several nouns: the first counts"],
    ),
}


@pytest.mark.parametrize("set_name", FORMS)
def test_the_form_is_read(form: Write, set_name: str, tmp_path: Path) -> None:
    (verbs, nouns, actions), splits, notes = EXPECTED[set_name]
    result = CliRunner().invoke(
        cli, ["annotations", "import", set_name, str(form(set_name)), str(tmp_path / "s"), "--json"]
    )
    assert result.exit_code == 0, result.output
    warnings = json.loads(result.stdout)["warnings"]
    assert len(warnings) == len(notes)
    assert all(note in said for note, said in zip(notes, warnings, strict=True))
    store = Store.open(tmp_path / "s")
    taxonomy = store.taxonomy
    assert (len(taxonomy.verbs), len(taxonomy.nouns), taxonomy.actions) == (verbs, nouns, actions)
    assert store.splits() == sorted(splits)
    for split, expected in splits.items():
        s = store.labels(split)
        columns = (s.uid.tolist(), s.video.tolist(), s.start_s, s.stop_s, s.action.tolist())
        for found, wanted in zip(zip(*columns, strict=True), expected, strict=True):
            assert (found[:2], found[4]) == (wanted[:2], wanted[4])
            np.testing.assert_allclose(found[2:4], wanted[2:4], rtol=1e-12)


def test_one_view_of_a_sequence_is_called_as_the_sequence(form: Write) -> None:
    own = read_annotations("assembly101", form("assembly101"), view="C1_rgb")
    assert {split: s.video.tolist() for split, s in own.splits.items()} == {
        "train": ["s"],
        "validation": ["t"],
    }
    with pytest.raises(
        BadAnnotations, match=r"validation\.csv: no such view: expected C1_rgb, found"
    ):
        read_annotations("assembly101", form("assembly101"), view="e1")


LONG = "x" * 300
WRONG: list[tuple[str, dict[str, str | None], type[Exception], str]] = [
    ("captaincook4d", {COOK: "{"}, BadAnnotations, "no JSON"),
    ("captaincook4d", {COOK: "[" * 10_000}, BadAnnotations, "nested too deeply|no JSON"),
    ("captaincook4d", {COOK: "[1]"}, BadAnnotations, "no object: found"),
    ("captaincook4d", {COOK: '{"1_7": 1, "1_8": 1}'}, BadAnnotations, "1_7: no object"),
    (
        "captaincook4d",
        {COOK: '{"1_7": {"steps": [{"step_id": 1}]}, "1_8": {"steps": []}}'},
        BadAnnotations,
        "1_7, step 0: no field 'start_time': expected|no field 'start_time'",
    ),
    (
        "captaincook4d",
        {COOK: '{"1_7": {"steps": [{"start_time": NaN, "end_time": 2}]}, "1_8": {}}'},
        BadAnnotations,
        "bad start_time: expected a number, found nan",
    ),
    (
        "captaincook4d",
        {COOK: json.dumps({"1_7": {"steps": [step(2, 1, 2)]}, "1_8": {"steps": []}})},
        BadAnnotations,
        "unknown step: expected one of step_idx_description.csv, found 2",
    ),
    (
        "captaincook4d",
        {COOK: json.dumps({"1_7": {"steps": [step(1, 3, 2)]}, "1_8": {"steps": [step(1, 1, 2)]}})},
        BadAnnotations,
        "1_7, step 0: the segment stops before it starts",
    ),
    ("captaincook4d", {NORMAL: '{"train": ["1_7", "5_5"]}'}, BadAnnotations, "without steps.*5_5"),
    (
        "captaincook4d",
        {NORMAL: '{"train": ["1_7"], "val": ["1_7"]}'},
        BadAnnotations,
        "1_7 is in tr",
    ),
    ("captaincook4d", {NORMAL: '{"train": [7]}'}, BadAnnotations, "bad recording: expected a text"),
    ("captaincook4d", {NORMAL: '{"train": ["9_9"]}'}, BadAnnotations, "a split without a step"),
    (
        "captaincook4d",
        {DESCRIBED: "step_idx,step_description\n1,a\n1,b\n"},
        BadAnnotations,
        "twice",
    ),
    ("ego4d-lta", {"fho_lta_val.json": '{"clips": []}'}, BadAnnotations, "no clips"),
    ("ego4d-lta", {"fho_lta_val.json": '{"clips": 3}'}, BadAnnotations, "clips: no list: found 3"),
    (
        "ego4d-lta",
        {"fho_lta_val.json": json.dumps([clip("d", 0, 1, 9, 2, 0)])},
        BadAnnotations,
        r"fho_lta_val\.json: clips, 0: unknown verb id: expected 0 to 1, found 2",
    ),
    (
        "ego4d-lta",
        {"fho_lta_val.json": json.dumps([clip("c", 0, 1, 9, 1, 0)])},
        BadAnnotations,
        "the uid is also used in train: found c_0",
    ),
    (
        "ego4d-lta",
        {"fho_lta_val.json": json.dumps([clip("d", 0, 1, 9, True, 0)])},
        BadAnnotations,
        "bad verb_label: expected a whole number, found True",
    ),
    ("ego4d-lta", {"fho_lta_taxonomy.json": '{"verbs": []}'}, BadAnnotations, "number of classes"),
    (
        "ego4d-lta",
        {"fho_lta_taxonomy.json": '{"verbs": [1]}'},
        BadAnnotations,
        "bad 0: expected a t",
    ),
    (
        "assembly101",
        {"train.csv": FINE + "0,s.mp4,84,111,0,2,0,a,b\n"},
        BadAnnotations,
        r"train\.csv:2: bad video: expected SEQUENCE/VIEW\.mp4, found 's\.mp4'",
    ),
    (
        "assembly101",
        {"train.csv": FINE + "0,s/v.mp4,84,111,0,1,0,a,b\n"},
        BadAnnotations,
        "has another verb or noun: expected verb 2, noun 0",
    ),
    (
        "assembly101",
        {"actions.csv": ACTIONS + "0,0,0,a b,a,b\n1,0,1,c d,c,d\n"},
        BadAnnotations,
        "verb 0 had another name before: expected a",
    ),
    (
        "assembly101",
        {"actions.csv": ACTIONS + "0,0,0,a,a,b\n1,1,1,a,c,d\n"},
        BadAnnotations,
        "one name",
    ),
    (
        "assembly101",
        {"actions.csv": ACTIONS + "0,0,0,a,a,b\n2,1,1,c,c,d\n"},
        BadAnnotations,
        "a gap",
    ),
    (
        "assembly101-coarse",
        {"coarse_labels/assembly_s.txt": "30 60 attach tail\n"},
        BadAnnotations,
        r"assembly_s\.txt:1: no coarse action",
    ),
    (
        "assembly101-coarse",
        {"coarse_labels/assembly_s.txt": "30\n"},
        BadAnnotations,
        "no coarse act",
    ),
    (
        "assembly101-coarse",
        {"coarse_splits/train_coarse_assembly.txt": "assembly_q.txt\tx\n"},
        NotFound,
        "the file can't be read",
    ),
    (
        "assembly101-coarse",
        {"coarse_splits/train_coarse_assembly.txt": "assembly_../../x.txt\tx\n"},
        BadAnnotations,
        "no name of a sequence",
    ),
    (
        "assembly101-coarse",
        {"coarse_splits/train_coarse_assembly.txt": "assembly_s.txt\nassembly_s.txt\n"},
        BadAnnotations,
        "listed twice, first in train_coarse_assembly.txt:1",
    ),
    ("egtea-original", {"train_split1.txt": "P9 1 2 1\n"}, BadAnnotations, "an unknown clip"),
    (
        "egtea-original",
        {"train_split1.txt": "P1-R1-Pasta-1500-2750-F36-F66 0 2 1\n"},
        BadAnnotations,
        r"train_split1\.txt:1: no ids: expected clip, action, verb and nouns from 1",
    ),
    (
        "egtea-original",
        {"test_split1.txt": "P2-R1-Pasta-1-999-F1-F23 1 1 1\n"},
        BadAnnotations,
        "action 1 had another verb or noun before: expected verb 2, noun 1, found verb 1",
    ),
    (
        "egtea-original",
        {"test_split1.txt": "P2-R1-Pasta-1-999-F1-F23 2 2 1\n"},
        BadAnnotations,
        "action 2 had another name before",
    ),
    (
        "egtea-original",
        {"test_split1.txt": "P2-R1-Pasta-1-999-F1-F23 4 2 1\n"},
        BadAnnotations,
        "an action without a clip.*found none of 3",
    ),
    (
        "egtea-original",
        {"raw_annotations/action_labels.csv": "1;a;b;1.5;2;c;d;e\n"},
        BadAnnotations,
        r"action_labels\.csv:1: no clip: expected id; clip; session",
    ),
    (
        "egtea-original",
        {"raw_annotations/action_labels.csv": "1;a;b;1;2;c;d;\n"},
        BadAnnotations,
        "empty",
    ),
]


@pytest.mark.parametrize(("set_name", "changes", "error", "words"), WRONG)
def test_what_is_wrong_is_one_line(form: Write, set_name, changes, error, words) -> None:
    with pytest.raises(error, match=words) as raised:
        read_annotations(set_name, form(set_name, changes))
    assert "\n" not in str(raised.value)


def test_numbers_of_splits_are_those_that_there_are(form: Write) -> None:
    with pytest.raises(BadConfig, match="EGTEA split"):
        read_annotations("egtea-original", form("egtea-original"), split_number=4)
    with pytest.raises(NotFound, match=r"no train_split2\.txt here"):
        read_annotations("egtea-original", form("egtea-original"), split_number=2)
    with pytest.raises(NotFound, match=r"other\.json"):
        read_annotations("captaincook4d", form("captaincook4d"), split_list="other.json")


def test_the_real_steps_of_captaincook4d(data_dir: Path) -> None:
    for lists, counts in (
        (NORMAL, {"train": (90, 1341), "validation": (26, 386), "test": (48, 705)}),
        (
            "person_data_split_normal.json",
            {"train": (90, 1319), "validation": (35, 556), "test": (39, 557)},
        ),
    ):
        dataset = read_annotations("captaincook4d", data_dir / "captaincook4d", split_list=lists)
        found = {name: (len(s.videos), len(s)) for name, s in dataset.splits.items()}
        assert found == counts
        assert len(dataset.taxonomy.actions) == 350
        recordings = json.loads((data_dir / "captaincook4d" / COOK).read_text("utf-8"))
        s = dataset.splits["train"]
        done = [e for e in recordings[str(s.video[0])]["steps"] if e["start_time"] >= 0]
        assert s.start_s[: len(done)].tolist() == [e["start_time"] for e in done]
