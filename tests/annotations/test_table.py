from __future__ import annotations

import os
import re
import unicodedata

import pytest

from antcache.annotations import match_videos, protocol_for, read_annotations
from antcache.errors import BadAnnotations, BadConfig, NotFound

HEADER = "uid,video,start,stop,verb,noun\n"


def test_names_seconds_and_a_column_of_splits(write, table_text):
    dataset = read_annotations("table", write({"labels.csv": table_text}))
    assert dataset.name == "table"
    assert list(dataset.splits) == ["train", "validation"]
    assert dataset.taxonomy.verbs == ("put", "take")
    assert dataset.taxonomy.nouns == ("cup", "pan")
    assert dataset.taxonomy.actions == ("put pan", "take cup", "take pan")
    assert dataset.splits["train"].action.tolist() == [2, 0]
    assert dataset.splits["validation"].action.tolist() == [1]
    assert dataset.splits["train"].start_s.tolist() == [1.5, 3.25]
    assert dataset.warnings == ()
    assert dataset.summary()["protocol"]["rate"] == protocol_for("anything").rate


def test_a_single_file_is_enough(write, table_text):
    folder = write({"labels.csv": table_text})
    dataset = read_annotations("table", folder / "labels.csv", name="my-kitchen")
    assert dataset.name == "my-kitchen"
    assert len(dataset.splits["train"]) == 2


def test_one_file_per_split_and_frames(write):
    folder = write(
        {
            "val.csv": HEADER + "c,two,50,75,take,cup\n",
            "train.csv": "video,uid,stop,start,noun,verb\none,a,50,25,pan,take\n",
            "extra.csv": HEADER + "d,two,100,125,take,pan\n",
        }
    )
    dataset = read_annotations("table", folder, fps=25.0)
    assert list(dataset.splits) == ["train", "validation", "extra"]
    assert dataset.splits["train"].start_s.tolist() == [1.0]
    assert dataset.splits["validation"].stop_s.tolist() == [3.0]


def test_the_order_of_lines_and_files_changes_no_class(write, table_text):
    header, *lines = table_text.splitlines(keepends=True)
    one = read_annotations("table", write({"labels.csv": table_text})).taxonomy
    two = read_annotations(
        "table", write({"labels.csv": header + "".join(reversed(lines))})
    ).taxonomy
    assert one == two


def test_ids_are_kept_and_named_by_class_files(write):
    files = {
        "train.csv": HEADER + "a,one,1.5,2,3,1\n",
        "verbs.csv": "id,name\n0,a\n1,b\n2,c\n3,d\n4,e\n",
    }
    dataset = read_annotations("table", write(files))
    assert dataset.taxonomy.verbs == ("a", "b", "c", "d", "e")
    assert dataset.taxonomy.nouns == ("noun 0", "noun 1")
    assert dataset.taxonomy.actions == ("d noun 1",)
    assert dataset.splits["train"].verb.tolist() == [3]
    assert any("each noun is called by its id" in line for line in dataset.warnings)


def test_class_files_give_ids_to_names(write):
    files = {
        "train.csv": HEADER + "a,one,1.5,2,take,pan\n",
        "verbs.csv": "id,name\n1,take\n0,wash\n",
    }
    dataset = read_annotations("table", write(files))
    assert dataset.taxonomy.verbs == ("wash", "take")
    assert dataset.splits["train"].verb.tolist() == [1]
    files["verbs.csv"] = "id,name\n0,wash\n"
    with pytest.raises(BadAnnotations, match=r"train\.csv:2: unknown verb: .*found 'take'"):
        read_annotations("table", write(files))


def test_actions_of_their_own(write):
    header = "uid,video,start,stop,verb,noun,action\n"
    text = header + "a,one,1.5,2,take,pan,grab\na2,one,3,4,put,pan,drop\n"
    dataset = read_annotations("table", write({"train.csv": text}))
    assert dataset.taxonomy.actions == ("drop", "grab")
    assert dataset.splits["train"].action.tolist() == [1, 0]
    text += "b,one,5,6,take,cup,grab\n"
    with pytest.raises(BadAnnotations, match=r"train\.csv:4: 'grab' had another verb or noun"):
        read_annotations("table", write({"train.csv": text}))
    text = header + "a,one,1.5,2,take,pan,0\na2,one,3,4,put,pan,2\n"
    with pytest.raises(BadAnnotations, match=r"action ids have gaps.*no segment of action 1"):
        read_annotations("table", write({"train.csv": text}))


def test_what_is_not_used_or_looks_like_frames_is_said(write):
    text = "uid,video,start,stop,verb,noun,mood\na,one,100,200,take,pan,good\n"
    warnings = read_annotations("table", write({"train.csv": text})).warnings
    assert "train.csv: column 'mood' is not used" in warnings
    assert any("if they are frames" in line for line in warnings)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("b,one,1.5,2,7,pan", ":3: the column 'verb' mixes ids and names"),
        ("b,one,1.5,2,,pan", ":3: bad verb"),
        ("b,one,one,2,take,pan", ":3: bad start: expected a number, found 'one'"),
        ("b,one,nan,2,take,pan", ":3: bad start"),
        ("b,one,1e999,2,take,pan", ":3: bad start"),
        ("b,one,5,2,take,pan", ":3: the segment stops before it starts"),
        ("a,one,1.5,2,take,pan", ":3: the uid is used twice"),
        ("b,one,1.5,2,take", ":3: wrong number of columns: expected 6"),
        ("b" * 256 + ",one,1.5,2,take,pan", ":3: bad uid: expected a name of at most 255 char"),
        ("b,one,1.5,2,take," + "n" * 256, ":3: bad noun: expected a name of at most 255 char"),
        ("b,one," + "9" * 400 + ",2,take,pan", ":3: bad start: expected a number"),
        ("b,one,1.5,2,take," + "n" * 140_000, ":3: not comma-separated text (field larger"),
    ],
)
def test_what_is_wrong_is_named_with_line(write, line, problem):
    folder = write({"train.csv": HEADER + "a,one,1,2.5,take,pan\n" + line + "\n"})
    with pytest.raises(BadAnnotations, match=re.escape("train.csv" + problem)):
        read_annotations("table", folder)


def test_names_may_be_as_long_as_those_of_files(write):
    line = ",".join(["u" * 255, "v" * 255, "1.5", "2", "é" * 255, "n" * 255])
    dataset = read_annotations("table", write({"train.csv": HEADER + line + "\n"}))
    assert dataset.splits["train"].uid.tolist() == ["u" * 255]


def test_many_columns_take_no_time(write):
    """Each is looked for among all others once, not once for each."""
    header = ",".join(map(str, range(100_000)))
    with pytest.raises(BadAnnotations, match="the header lacks uid, video"):
        read_annotations("table", write({"train.csv": f"{header}\n"}))


def test_pipes_are_not_waited_for(write, tmp_path):
    folder = write({"train.csv": HEADER + "a,one,1,2.5,take,pan\n"})
    os.mkfifo(folder / "more.csv")
    with pytest.raises(BadAnnotations, match=r"more\.csv: the file can't be read: found no reg"):
        read_annotations("table", folder)


def test_headers_that_are_not_ours(write):
    for text in ("uid;video;start;stop;verb;noun\n1;2;3;4;5;6\n", "a,one,1,2,take,pan\n", HEADER):
        with pytest.raises(BadAnnotations, match=r"train\.csv"):
            read_annotations("table", write({"train.csv": text}))


def test_other_wrong_input(write, tmp_path, table_text):
    with pytest.raises(NotFound, match="expected a CSV file with the header"):
        read_annotations("table", tmp_path / "absent")
    with pytest.raises(NotFound, match="found an empty folder"):
        read_annotations("table", tmp_path)
    with pytest.raises(BadConfig, match="impossible frame rate"):
        read_annotations("table", tmp_path, fps=0.0)
    folder = write({"labels.csv": table_text})
    with pytest.raises(BadAnnotations, match=r"labels\.csv:2: bad start: expected a whole number"):
        read_annotations("table", folder, fps=30.0)
    with pytest.raises(BadAnnotations, match=r":4: a split can't be called so"):
        read_annotations("table", write({"labels.csv": table_text.replace(",val", ",../val")}))
    write(
        {"labels.csv": table_text, "more.csv": HEADER.strip() + ",action\nz,one,9,10,take,pan,x\n"}
    )
    with pytest.raises(BadAnnotations, match="only some files have a column 'action'"):
        read_annotations("table", folder)


@pytest.mark.parametrize("train", ["train", "TRAIN", "Training"])
@pytest.mark.parametrize("validation", ["val", "Val", "VALIDATION", "valid"])
def test_splits_are_known_in_any_case(write, tmp_path, train, validation):
    lines = ("a,one,1.5,2.5,take,pan", "c,two,2,3.5,take,cup")
    files = {
        f"{train}.csv": HEADER + lines[0] + "\n",
        f"{validation}.csv": HEADER + lines[1] + "\n",
    }
    dataset = read_annotations("table", write(files))
    assert {k: v.uid.tolist() for k, v in dataset.splits.items()} == {
        "train": ["a"],
        "validation": ["c"],
    }
    for path in tmp_path.iterdir():
        path.unlink()
    text = HEADER.strip() + f",split\n{lines[0]},{train}\n{lines[1]},{validation}\n"
    assert list(read_annotations("table", write({"all.csv": text})).splits) == list(dataset.splits)


def test_splits_of_ones_own_keep_their_names_and_are_never_mixed(write):
    text = HEADER.strip() + ",split\na,one,1.5,2.5,take,pan,Seen\nb,two,1.5,2.5,take,pan,train\n"
    assert list(read_annotations("table", write({"t.csv": text})).splits) == ["train", "Seen"]
    with pytest.raises(BadAnnotations, match=r":4: two splits are called alike: expected Seen"):
        read_annotations("table", write({"t.csv": text + "c,three,1,2.5,take,pan,seen\n"}))


def many(videos):
    return HEADER + "".join(
        f"{video}-{i},{video},{i}.5,{i + 1},take,pan\n" for i in range(3) for video in videos
    )


def test_one_file_is_one_split_and_says_so(write):
    dataset = read_annotations("table", write({"Train.csv": many("abcde")}))
    assert list(dataset.splits) == ["train"]
    assert any(
        line.startswith("Train.csv is one split, 'train'; --split-by-video 0.2")
        for line in dataset.warnings
    )


@pytest.mark.parametrize(("share", "count"), [(0.2, 2), (0.01, 1), (0.99, 9), (0.5, 5)])
def test_one_file_is_split_by_whole_videos(write, share, count):
    videos = [f"v{i}" for i in range(10)]
    path = write({"labels.csv": many(videos)}) / "labels.csv"
    dataset = read_annotations("table", path, split_by_video=share)
    train, validation = (dataset.splits[name] for name in ("train", "validation"))
    assert len(validation.videos) == count
    assert sorted(train.videos + validation.videos) == sorted(videos)
    assert sorted(train.uid.tolist() + validation.uid.tolist()) == sorted(
        f"{video}-{i}" for video in videos for i in range(3)
    )
    said = f"split by video: {10 - count} videos ({3 * (10 - count)} segments) are train, {count} "
    assert any(line.startswith(said) for line in dataset.warnings)
    header, *lines = many(videos).splitlines(keepends=True)
    path.write_text(header + "".join(sorted(lines, reverse=True)))
    again = read_annotations("table", path, split_by_video=share)
    assert again.splits["validation"].videos == validation.videos


@pytest.mark.parametrize("spelled", ["{}.mp4", "day1/{}", "C:\\films\\{}.MKV", "caf\xe9/{}.avi"])
def test_how_a_path_is_spelled_moves_no_video(write, spelled):
    """Composed or not, with folders or without: the same videos are drawn, and named bare."""
    videos = [f"caf\xe9 {i}" for i in range(10)]
    path = write({"labels.csv": many(videos)}) / "labels.csv"
    bare = read_annotations("table", path, split_by_video=0.3)
    path.write_text(many([unicodedata.normalize("NFD", spelled.format(v)) for v in videos]))
    again = read_annotations("table", path, split_by_video=0.3)
    assert match_videos(again).splits["validation"].videos == bare.splits["validation"].videos
    said = [line for line in bare.warnings if line.startswith("split by video")]
    assert said
    assert [line for line in again.warnings if line.startswith("split by video")] == said


def test_two_spellings_of_a_video_are_never_apart(write):
    """Even where nobody matches their names: no video is trained on and tested with."""
    videos = [spelled.format(i) for i in range(10) for spelled in ("v{}", "v{}.mp4")]
    path = write({"labels.csv": many(videos)}) / "labels.csv"
    train, validation = read_annotations("table", path, split_by_video=0.3).splits.values()
    assert len(validation.videos) == 6
    assert not {v.removesuffix(".mp4") for v in train.videos} & {
        v.removesuffix(".mp4") for v in validation.videos
    }


def test_a_video_more_moves_few(write):
    """Not drawn anew: those of the smaller table that were validation stay so, or one of them."""
    videos = [f"v{i}" for i in range(20)]
    path = write({"labels.csv": many(videos[:-1])}) / "labels.csv"
    small = read_annotations("table", path, split_by_video=0.25).splits["validation"].videos
    path.write_text(many(videos))
    large = read_annotations("table", path, split_by_video=0.25).splits["validation"].videos
    assert len(set(small) - set(large)) <= 1


def test_what_can_not_be_split_by_video(write, table_text):
    folder = write({"labels.csv": table_text})
    with pytest.raises(BadConfig, match="the tables have splits already"):
        read_annotations("table", folder, split_by_video=0.2)
    folder = write({"labels.csv": many("ab"), "more.csv": many("cd")})
    with pytest.raises(BadConfig, match=r"splits already: .*found labels\.csv, more\.csv"):
        read_annotations("table", folder, split_by_video=0.2)
    path = write({"labels.csv": many("a")}) / "labels.csv"
    with pytest.raises(BadConfig, match=r"one video can't be split .*found a \(split it in time"):
        read_annotations("table", path, split_by_video=0.2)
    for share in (0.0, 1.0, -0.2, 20.0, float("nan")):
        with pytest.raises(BadConfig, match="impossible share"):
            read_annotations("table", path, split_by_video=share)
    with pytest.raises(BadConfig, match="egtea takes no split by video"):
        read_annotations("egtea", folder, split_by_video=0.2)


def test_ids_that_pandas_wrote_as_numbers_with_a_point(write):
    header = "uid,video,start,stop,verb,noun,action\n"
    files = {"train.csv": header + "7.0,one,1.5,2,3.0,1.00,0.0\n8,one,2.0,4.0,0,1,1\n"}
    dataset = read_annotations("table", write(files))
    train = dataset.splits["train"]
    assert (train.verb.tolist(), train.noun.tolist()) == ([3, 0], [1, 1])
    assert train.action.tolist() == [0, 1]
    assert train.uid.tolist() == ["7", "8"]
    assert train.start_s.tolist() == [1.5, 2.0]
    files = {"train.csv": HEADER + "a,one,25.0,50.0,take,pan\n"}
    assert read_annotations("table", write(files), fps=25).splits["train"].stop_s.tolist() == [2.0]
    for wrong in ("25.5", "25.00001"):
        files = {"train.csv": HEADER + f"a,one,{wrong},50,take,pan\n"}
        with pytest.raises(BadAnnotations, match="bad start: expected a whole number"):
            read_annotations("table", write(files), fps=25)
    files = {"train.csv": HEADER + "a,one,1.5,2,3.5,pan\n"}
    assert read_annotations("table", write(files)).taxonomy.verbs == ("3.5",)


@pytest.mark.parametrize("cell", ["nan", "NaN", "None", "N/A", "null", "<NA>"])
def test_a_cell_that_was_empty_is_noted(write, cell):
    lines = ["a,one,1.5,2,take,pan", f"b,one,2,3,take,{cell}", f"c,one,3,4,put,{cell}"]
    dataset = read_annotations("table", write({"train.csv": HEADER + "\n".join(lines) + "\n"}))
    assert cell in dataset.taxonomy.nouns
    said = f":3: {cell!r} is read as a name (2 in column 'noun')"
    assert any(said in line for line in dataset.warnings)


@pytest.mark.parametrize("first", [True, False])
def test_a_cell_that_was_empty_among_ids_is_refused(write, first):
    lines = ["a,one,1.5,2,take,1", "b,one,2,3,take,nan"]
    text = HEADER + "\n".join(lines[:: -1 if first else 1]) + "\n"
    words = rf":{2 if first else 3}: the column 'noun' has no id here: .*found 'nan'"
    with pytest.raises(BadAnnotations, match=words):
        read_annotations("table", write({"train.csv": text}))


def test_a_column_called_exactly_so_is_taken_before_others(write):
    text = "uid,Video,start,stop,verb,noun,video,Uid\na,no,1.5,2,take,pan,one,x\n"
    dataset = read_annotations("table", write({"t.csv": text}))
    assert dataset.splits["t"].video.tolist() == ["one"]
    assert "t.csv: column 'Video' is not used" in dataset.warnings
    text = "Uid,UID,video,start,stop,verb,noun\na,b,one,1.5,2,take,pan\n"
    with pytest.raises(BadAnnotations, match=r"the header names a column twice \(uid\)"):
        read_annotations("table", write({"t.csv": text}))


@pytest.mark.parametrize("name", ["Split", "SPLIT", "split"])
def test_a_column_of_splits_is_known_in_any_case(write, table_text, name):
    text = table_text.replace(",split\n", f",{name}\n")
    dataset = read_annotations("table", write({"labels.csv": text}))
    assert list(dataset.splits) == ["train", "validation"]
    assert dataset.warnings == ()


@pytest.mark.parametrize("name", ["Nouns.csv", "NOUNS.CSV"])
def test_class_files_are_known_in_any_case(write, name):
    files = {"train.csv": HEADER + "a,one,1.5,2,take,pan\n", name: "Id,Name\n1,pan\n0,cup\n"}
    folder = write(files)
    dataset = read_annotations("table", folder)
    assert dataset.taxonomy.nouns == ("cup", "pan")
    assert list(dataset.splits) == ["train"]
    assert read_annotations("table", folder / "train.csv").taxonomy == dataset.taxonomy
    write({"nouns.csv": files[name]})
    with pytest.raises(BadAnnotations, match=rf"two files of nouns: .*found {name} and nouns\.csv"):
        read_annotations("table", folder)


def test_two_names_of_one_split_are_said(write):
    line = "{},one,1.5,2.5,take,pan"
    files = {
        "train.csv": HEADER + line.format("a") + "\n",
        "Training.csv": HEADER + line.format("b") + "\n",
        "val.csv": HEADER + line.format("c") + "\n",
    }
    dataset = read_annotations("table", write(files))
    assert {k: len(v) for k, v in dataset.splits.items()} == {"train": 2, "validation": 1}
    said = "Training and train are one split, 'train'"
    assert [text for text in dataset.warnings if "are one split" in text] == [said]
    rows = [line.format(i) + f",{split}" for i, split in enumerate(("val", "Validation", "train"))]
    text = "\n".join([HEADER.strip() + ",split", *rows]) + "\n"
    path = write({"all.csv": text}) / "all.csv"
    said = "Validation and val are one split, 'validation'"
    assert said in read_annotations("table", path).warnings
