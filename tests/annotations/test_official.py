from __future__ import annotations

import re

import numpy as np
import pytest

from antcache.annotations import read_annotations
from antcache.errors import BadAnnotations, NotFound


def test_epic_kitchens_55_keeps_the_name_and_uses_timestamps(write, ek55_official_files):
    dataset = read_annotations("epic-kitchens-55-official", write(ek55_official_files))
    assert dataset.name == "epic-kitchens-55"
    assert dataset.splits["validation"].start_s.tolist() == [1.05]
    assert dataset.splits["validation"].stop_s.tolist() == [3.37]
    assert dataset.splits["train"].uid.tolist() == ["10", "11"]
    assert dataset.taxonomy.actions == ("take_pan", "take_board:cutting", "open_door")


def test_action_ids_are_in_the_published_order_of_text(write, ek55_official_files):
    """As in RULSTM's list, 10_2 comes before 1_0: the ids agree without its `actions.csv`."""
    verbs = "".join(f"{i},verb{i},['v']\n" for i in range(11))
    ek55_official_files["EPIC_verb_classes.csv"] = "verb_id,class_key,verbs\n" + verbs
    text = str(ek55_official_files["EPIC_train_action_labels.csv"])
    ek55_official_files["EPIC_train_action_labels.csv"] = text.replace(",open,2,", ",open,10,")
    text = ek55_official_files["EPIC_train_action_labels.csv"]
    extra = "12,P01,P01_02,x,00:00:07.00,00:00:09.27,400,500,x,1,pan,0,['pan'],[0]\n"
    ek55_official_files["EPIC_train_action_labels.csv"] = text + extra
    taxonomy = read_annotations("epic-kitchens-55-official", write(ek55_official_files)).taxonomy
    assert taxonomy.action_verbs == (0, 0, 10, 1)


def test_the_published_action_ids_need_no_actions_file(write, data_dir, ek55):
    source = data_dir / "epic-kitchens-55"
    names = ("EPIC_train_action_labels.csv", "EPIC_verb_classes.csv", "EPIC_noun_classes.csv")
    folder = write({name: (source / name).read_bytes() for name in names})
    dataset = read_annotations("epic-kitchens-55-official", folder)
    assert dataset.taxonomy.action_verbs == ek55.taxonomy.action_verbs
    assert dataset.taxonomy.action_nouns == ek55.taxonomy.action_nouns
    assert {k: len(v) for k, v in dataset.splits.items()} == {"train": 28_472}


def test_actions_file_gives_ids_and_names(write, ek55_official_files):
    ek55_official_files["actions.csv"] = (
        "id,action,verb,noun\n0,open_door,2,2\n1,take_board,0,1\n2,get_pan,0,0\n"
    )
    dataset = read_annotations("epic-kitchens-55-official", write(ek55_official_files))
    assert dataset.splits["train"].action.tolist() == [2, 0]
    ek55_official_files["actions.csv"] = "id,action,verb,noun\n0,open_door,2,2\n1,take_board,0,1\n"
    with pytest.raises(BadAnnotations, match=r"labels\.csv:3: no action has this verb and noun"):
        read_annotations("epic-kitchens-55-official", write(ek55_official_files))


def test_without_lists_of_videos_everything_is_train(write, ek55_official_files):
    del ek55_official_files["validation_videos.csv"]
    dataset = read_annotations("epic-kitchens-55-official", write(ek55_official_files))
    assert {k: len(v) for k, v in dataset.splits.items()} == {"train": 3}
    assert any("everything is in train" in line for line in dataset.warnings)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("training_videos.csv", "P01_05\n", "labels.csv:3: the video is on no list of a split"),
        (
            "training_videos.csv",
            "P01_02\nP01_01\n",
            "validation_videos.csv:1: the video is listed twice",
        ),
        ("EPIC_verb_classes.csv", "verb_id,class_key\n0,take\n", "labels.csv:4: unknown verb id"),
        (
            "EPIC_verb_classes.csv",
            "id,key\n0,take\n",
            "classes.csv:1: the header lacks verb_id, class_key",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(write, ek55_official_files, file, content, problem):
    ek55_official_files[file] = content
    with pytest.raises(BadAnnotations, match=re.escape(problem)):
        read_annotations("epic-kitchens-55-official", write(ek55_official_files))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("00:00:05.07", "5.07", ":3: bad start_timestamp: expected HH:MM:SS.ss, found '5.07'"),
        ("00:00:06.83", "00:00:01.00", ":3: the segment stops before it starts"),
        ("\n11,", "\n10,", ":4: the uid is used twice"),
        ("stop_timestamp", "end", ":1: the header lacks stop_timestamp"),
        ("participant_id,", "uid,", ":1: the header names a column twice (uid)"),
    ],
)
def test_what_is_wrong_is_named_with_line(write, ek55_official_files, old, new, problem):
    name = "EPIC_train_action_labels.csv"
    ek55_official_files[name] = str(ek55_official_files[name]).replace(old, new)
    with pytest.raises(BadAnnotations, match=re.escape(name + problem)):
        read_annotations("epic-kitchens-55-official", write(ek55_official_files))


def test_epic_kitchens_100_agrees_with_the_form_of_rulstm(
    write, ek100_files, ek100_official_files, tmp_path
):
    lists = {"EPIC_100_tail_verbs.csv": "verb\n1\n", "EPIC_100_tail_nouns.csv": "noun\n0\n"}
    folder = write(ek100_files | ek100_official_files | lists)
    official = read_annotations("epic-kitchens-100-official", folder)
    rulstm = read_annotations("epic-kitchens-100", folder)
    assert (official.taxonomy.tail_verbs, official.taxonomy.tail_nouns) == ((1,), (0,))
    assert official.name == "epic-kitchens-100"
    assert official.taxonomy == rulstm.taxonomy
    assert not official.warnings
    for split in ("train", "validation"):
        left, right = official.splits[split], rulstm.splits[split]
        for column in ("uid", "video", "verb", "noun", "action"):
            np.testing.assert_array_equal(getattr(left, column), getattr(right, column))
        np.testing.assert_allclose(left.start_s, right.start_s, atol=1 / 30)
    (tmp_path / "actions.csv").unlink()
    assert read_annotations("epic-kitchens-100-official", folder).taxonomy == rulstm.taxonomy


def nouns_csv(count):
    return "id,key,instances,category\n" + "".join(f"{i},noun{i},[],c\n" for i in range(count))


@pytest.mark.parametrize("files", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("form", ["epic-kitchens-100", "epic-kitchens-100-official"])
def test_epic_kitchens_100_has_300_nouns_whichever_list_lies_there(
    write, ek100_files, ek100_official_files, files, form
):
    """Version 2 adds five for another challenge."""
    lists = {
        1: ("EPIC_100_noun_classes.csv", nouns_csv(300)),
        2: ("EPIC_100_noun_classes_v2.csv", nouns_csv(305)),
    }
    del ek100_official_files["EPIC_100_noun_classes_v2.csv"]
    folder = write(ek100_files | ek100_official_files | dict(lists[n] for n in files))
    nouns = read_annotations(form, folder).taxonomy.nouns
    assert nouns == tuple(f"noun{i}" for i in range(300))


def test_no_action_of_epic_kitchens_100_may_have_a_noun_of_the_other_challenge(
    write, ek100_files, ek100_official_files
):
    ek100_official_files["EPIC_100_noun_classes_v2.csv"] = nouns_csv(305)
    ek100_files["actions.csv"] += "4,1,302,open hand\n"
    with pytest.raises(BadAnnotations, match=r"expected .*300 nouns, found .*303 nouns"):
        read_annotations("epic-kitchens-100", write(ek100_files | ek100_official_files))


def test_epic_kitchens_100_needs_its_class_files(write, ek100_official_files):
    del ek100_official_files["EPIC_100_noun_classes_v2.csv"]
    with pytest.raises(NotFound, match=r"lacks EPIC_100_noun_classes\.csv: .*found EPIC_100_train"):
        read_annotations("epic-kitchens-100-official", write(ek100_official_files))
