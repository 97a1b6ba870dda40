from __future__ import annotations

import re

import numpy as np
import pytest

from antcache.annotations import read_annotations
from antcache.errors import BadAnnotations, BadConfig, NotFound


def test_epic_kitchens_55(write, ek55_files):
    dataset = read_annotations("epic-kitchens-55", write(ek55_files))
    train = dataset.splits["train"]
    assert dataset.name == dataset.taxonomy.dataset == "epic-kitchens-55"
    assert list(dataset.splits) == ["train", "validation"]
    assert train.uid.tolist() == ["10", "11"]
    assert train.video.tolist() == ["P01_02", "P01_02"]
    np.testing.assert_array_equal(train.start_s * 30, [152, 200])
    assert (train.verb.tolist(), train.noun.tolist(), train.action.tolist()) == (
        [0, 2],
        [0, 2],
        [0, 2],
    )
    assert dataset.taxonomy.verbs == ("take", "put", "open")
    assert dataset.taxonomy.nouns == ("pan", "board:cutting", "door")
    assert dataset.taxonomy.actions == ("take_pan", "grab_board:cutting", "open_door")
    assert dataset.taxonomy.many_shot_actions is None
    assert any("EPIC_many_shot" in line for line in dataset.warnings)


def test_names_come_from_the_actions_where_class_files_are_missing(write, ek55_files):
    del ek55_files["EPIC_verb_classes.csv"]
    dataset = read_annotations("epic-kitchens-55", write(ek55_files))
    assert dataset.taxonomy.verbs == ("take", "verb 1", "open")
    assert dataset.taxonomy.nouns == ("pan", "board:cutting", "door")
    assert any("no class files" in line for line in dataset.warnings)


def test_many_shot_lists(write, ek55_files):
    ek55_files["EPIC_many_shot_actions.csv"] = 'action_class,noun\n"(2, 2)",door\n"(0, 0)",pan\n'
    ek55_files["EPIC_many_shot_verbs.csv"] = "verb_class,verb\n2,open\n"
    ek55_files["EPIC_many_shot_nouns.csv"] = "noun_class,noun\n1,board\n"
    taxonomy = read_annotations("epic-kitchens-55", write(ek55_files)).taxonomy
    assert taxonomy.many_shot_actions == (0, 2)
    assert taxonomy.any_shot_actions == (1, 2)
    ek55_files["EPIC_many_shot_actions.csv"] = 'action_class,noun\n"(1, 2)",door\n'
    with pytest.raises(BadAnnotations, match=r"many_shot_actions\.csv:2: no action has this verb"):
        read_annotations("epic-kitchens-55", write(ek55_files))
    ek55_files["EPIC_many_shot_actions.csv"] = 'action_class,noun\n"(2, 2)",door\n'
    ek55_files["EPIC_many_shot_verbs.csv"] = "verb_class,verb\n9,open\n"
    with pytest.raises(BadAnnotations, match=r"many_shot_verbs\.csv:2: unknown verb id"):
        read_annotations("epic-kitchens-55", write(ek55_files))


def test_a_missing_list_of_many_shot_actions_is_made_of_those_of_verbs_and_nouns(write, ek55_files):
    """RULSTM's folder has those two alone; (2, 2) is the action whose verb and noun are on them."""
    ek55_files["EPIC_many_shot_verbs.csv"] = "verb_class,verb\n2,open\n"
    ek55_files["EPIC_many_shot_nouns.csv"] = "noun_class,noun\n1,board\n2,door\n"
    dataset = read_annotations("epic-kitchens-55", write(ek55_files))
    assert dataset.taxonomy.many_shot_actions == (2,)
    assert dataset.taxonomy.any_shot_actions == (1, 2)
    said = "no EPIC_many_shot_actions.csv: the 1 actions whose verb and noun are many-shot"
    assert any(line.startswith(said) for line in dataset.warnings)


@pytest.mark.parametrize("name", ["test_seen.csv", "test_timestamps.csv"])
def test_test_files_have_no_labels_and_are_passed_over_with_a_count(write, ek55_files, name):
    ek55_files[name] = "01924, P01_11, 0000000001, 0000000056\n" * 3
    dataset = read_annotations("epic-kitchens-55", write(ek55_files))
    assert f"{name}: 3 segments without labels passed over" in dataset.warnings
    assert list(dataset.splits) == ["train", "validation"]


def test_epic_kitchens_100_uids_are_strings_and_rows_keep_their_order(write, ek100_files):
    dataset = read_annotations("epic-kitchens-100", write(ek100_files))
    assert dataset.splits["train"].uid.tolist() == ["P01_01_0", "P01_01_10", "P01_01_1"]
    assert dataset.taxonomy.actions[3] == "open door"
    assert dataset.taxonomy.verbs == ("take", "open")
    assert dataset.taxonomy.nouns == ("tap", "door", "lid")


def test_egtea_names(write, egtea_files):
    taxonomy = read_annotations("egtea", write(egtea_files)).taxonomy
    assert taxonomy.verbs == ("Inspect/Read", "Take")
    assert taxonomy.nouns == ("recipe", "eating:utensil")
    assert (taxonomy.action_verbs, taxonomy.action_nouns) == ((0, 1, 1), (0, 1, 0))


def test_egtea_splits_are_chosen_by_number(write, egtea_files):
    folder = write(
        egtea_files
        | {"training3.csv": "1,P07,10,20,1,1,1\n", "validation3.csv": "2,P07,30,40,0,0,0\n"}
    )
    assert len(read_annotations("egtea", folder).splits["train"]) == 2
    assert len(read_annotations("egtea", folder, split_number=3).splits["train"]) == 1
    with pytest.raises(NotFound, match=r"lacks training2\.csv, validation2\.csv"):
        read_annotations("egtea", folder, split_number=2)
    with pytest.raises(BadConfig, match="unknown EGTEA split: expected 1 or 2 or 3, found 4"):
        read_annotations("egtea", folder, split_number=4)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("00012, P01_02, 300, 400, 000, 000", "wrong number of columns: expected 7 (uid, video"),
        ("00012, P01_02, 300, 400, 000, 000, 0, 0", "wrong number of columns"),
        (
            "00012, P01_02, 3x0, 400, 000, 000, 0000",
            "bad start: expected a whole number, found '3x0'",
        ),
        ("00012, P01_02, 300.5, 400, 000, 000, 0000", "bad start"),
        ("00012, P01_02, 300, , 000, 000, 0000", "bad stop"),
        ("00012, , 300, 400, 000, 000, 0000", "bad video"),
        (", P01_02, 300, 400, 000, 000, 0000", "bad uid"),
        ("00012, P01_02, 300, 400, 003, 000, 0000", "unknown verb id: expected 0 to 2, found 3"),
        ("00012, P01_02, 300, 400, 000, 099, 0000", "unknown noun id: expected 0 to 2, found 99"),
        (
            "00012, P01_02, 300, 400, 000, 000, 2513",
            "unknown action id: expected 0 to 2, found 2513",
        ),
        ("00012, P01_02, 300, 400, 000, -1, 0000", "unknown noun id"),
        ("00012, P01_02, 300, 400, 000, 001, 0000", "action 0 (take_pan) has another verb or noun"),
        ("00012, P01_02, 400, 300, 000, 000, 0000", "the segment stops before it starts"),
        ("00012, P01_02, 400, 400, 000, 000, 0000", "the segment stops before it starts"),
        ("00012, P01_02, -40, 400, 000, 000, 0000", "a time is negative"),
        ("00010, P01_02, 300, 400, 000, 000, 0000", "the uid is used twice, first at"),
        ("10, P01_02, 300, 400, 000, 000, 0000", "the uid is used twice"),
        (f"12, P01_02, 300, {'9' * 30}, 000, 000, 0000", "bad stop"),
        ('12, "P01_02, 300, 400, 000, 000, 0000', "not comma-separated text"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(write, ek55_files, wrong, problem):
    ek55_files["training.csv"] = str(ek55_files["training.csv"]) + wrong + "\n"
    with pytest.raises(BadAnnotations, match=r"training\.csv:3: .*" + re.escape(problem)) as error:
        read_annotations("epic-kitchens-55", write(ek55_files))
    assert "\n" not in str(error.value)


def test_a_uid_of_another_split_is_refused(write, ek55_files):
    ek55_files["validation.csv"] = "00010, P01_01, 31, 101, 0, 1, 1\n"
    with pytest.raises(BadAnnotations, match=r"validation\.csv:1: the uid is also used in train"):
        read_annotations("epic-kitchens-55", write(ek55_files))


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("0, take_pan,0,1\n2, put_pan,1,1\n", ":3: the ids have a gap: expected 0 to 1, each once"),
        ("0, take_pan,0,1\n0, put_pan,1,1\n", ":3: the id is used twice"),
        (
            "0, take_pan,0,7\n1, put_pan,1,1\n",
            "actions.csv:2: unknown noun id: expected 0 to 2, found 7",
        ),
        ("0, take_pan,0,999999999\n", ":2: unknown noun id"),
    ],
)
def test_wrong_actions(write, ek55_files, lines, problem):
    ek55_files["actions.csv"] = "id,action,verb,noun\n" + lines
    with pytest.raises(BadAnnotations, match=re.escape(problem)):
        read_annotations("epic-kitchens-55", write(ek55_files))


def test_overlaps_equal_starts_and_duplicates_are_read_and_counted(write, ek55_files):
    ek55_files["training.csv"] = (
        "1, v, 300, 400, 0, 0, 0\n"
        "7, v, 100, 200, 0, 0, 0\n"
        "3, v, 300, 400, 0, 0, 0\n"  # the first one again
        "4, v, 300, 350, 2, 2, 2\n"
        "5, v, 400, 450, 0, 0, 0\n"  # touches, does not overlap
        "6, w, 300, 400, 0, 0, 0\n"  # another video
    )
    counts = read_annotations("epic-kitchens-55", write(ek55_files)).summary()["splits"]["train"]
    assert (counts["overlaps"], counts["equal_starts"], counts["duplicates"]) == (2, 2, 1)
