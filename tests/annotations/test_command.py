from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from antcache.annotations import read_annotations
from antcache.cli.main import cli
from antcache.store import Store


def run(*arguments):
    return CliRunner().invoke(cli, ["annotations", *map(str, arguments)])


def test_summary_as_table_and_json(write, ek55_files):
    folder = write(ek55_files)
    result = run("summary", "epic-kitchens-55", folder, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == read_annotations("epic-kitchens-55", folder).summary()
    result = run("summary", "epic-kitchens-55", folder)
    assert result.exit_code == 0
    assert "windows dropped" in result.stdout
    assert "note: no EPIC_many_shot_verbs.csv" in result.stderr


@pytest.mark.parametrize("store_name", ["store", "store.h5"])
def test_import_writes_labels_and_classes(write, ek55_files, tmp_path, store_name):
    folder = write(ek55_files)
    path = tmp_path / store_name
    result = run("import", "epic-kitchens-55", folder, path, "--json")
    assert result.exit_code == 0, result.output
    dataset, store = read_annotations("epic-kitchens-55", folder), Store.open(path)
    assert store.dataset == "epic-kitchens-55"
    assert store.taxonomy == dataset.taxonomy
    assert sorted(store.splits()) == ["train", "validation"]
    for split, segments in dataset.splits.items():
        for column, values in segments.arrays().items():
            assert getattr(store.labels(split), column).tolist() == values.tolist()


def test_import_replaces_labels_only_when_asked(write, ek55_files, tmp_path):
    folder, path = write(ek55_files), tmp_path / "store"
    assert run("import", "epic-kitchens-55", folder, path).exit_code == 0
    write({"training.csv": str(ek55_files["training.csv"]).splitlines()[0]})
    result = run("import", "epic-kitchens-55", folder, path)
    assert result.exit_code == 2
    assert "the store has other labels of train (--overwrite replaces them)" in result.stderr
    assert len(Store.open(path).labels("train")) == 2
    assert run("import", "epic-kitchens-55", folder, path, "--overwrite").exit_code == 0
    assert len(Store.open(path).labels("train")) == 1


def test_a_store_with_the_nouns_of_another_challenge_is_mended(
    write, ek100_files, ek100_official_files, tmp_path
):
    """It has five nouns more, which are in no action: the store as it was, its features kept."""
    folder, path = write(ek100_files | ek100_official_files), tmp_path / "store"
    good = read_annotations("epic-kitchens-100", folder)
    more = tuple(f"hand {i}" for i in range(5))
    bad = replace(good.taxonomy, nouns=good.taxonomy.nouns + more)
    store = Store.create(path, dataset=good.name)
    store.write_splits(good.splits, bad, source="an older version")
    result = run("import", "epic-kitchens-100", folder, path)
    assert result.exit_code == 2
    assert "8 nouns" in result.stderr
    assert "--overwrite" in result.stderr
    assert run("import", "epic-kitchens-100", folder, path, "--overwrite").exit_code == 0
    assert Store.open(path).taxonomy == good.taxonomy


def test_wrong_input_is_one_line_exit_code_2_and_no_store(write, ek55_files, egtea_files, tmp_path):
    path = tmp_path / "store"
    ek55_files["training.csv"] = str(ek55_files["training.csv"]) + "12, P01\n"
    for arguments in (
        ("import", "epic-kitchens-55", write(ek55_files), path),
        ("import", "epic-kitchens-55", tmp_path / "absent", path),
        ("import", "ek55", tmp_path, path),
        ("import", "egtea", tmp_path, path, "--fps", "30"),
        ("summary", "egtea", tmp_path),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1
        assert result.stdout == ""
        assert not path.exists()


def test_a_store_of_another_dataset_is_refused_and_kept(write, ek55_files, egtea_files, tmp_path):
    path = tmp_path / "store"
    assert run("import", "epic-kitchens-55", write(ek55_files), path).exit_code == 0
    result = run("import", "egtea", write(egtea_files), path, "--overwrite")
    assert result.exit_code == 2
    assert "another dataset: expected epic-kitchens-55, found egtea" in result.stderr
    assert Store.open(path).dataset == "epic-kitchens-55"


def test_a_name_by_mistake_is_taken_back(write, tmp_path):
    table = write({"train.csv": "uid,video,start,stop,verb,noun\n1,v,0.5,1,take,pan\n"})
    path = tmp_path / "store"
    again = ("import", "table", table, path)
    assert run(*again, "--name", "a/é b").exit_code == 0
    Store.open(path).remove("labels/train")
    refused = run(*again, "--name", "kitchen")
    assert refused.exit_code == 2
    assert "importing with --overwrite gives it another" in refused.stderr
    assert run(*again, "--name", "kitchen", "--overwrite").exit_code == 0
    assert Store.open(path).dataset == Store.open(path).taxonomy.dataset == "kitchen"


def test_a_dataset_has_a_name(write, tmp_path):
    table = write({"train.csv": "uid,video,start,stop,verb,noun\n1,v,0.5,1,take,pan\n"})
    said = {
        "": "impossible --name: expected a text that is not empty",
        " ": "a dataset without a name: expected a name, found ' '",
    }
    for name, expected in said.items():
        for words in (("summary", "table", table), ("import", "table", table, tmp_path / "store")):
            result = run(*words, "--name", name)
            assert (result.exit_code, result.stdout) == (2, "")
            assert expected in result.stderr
    assert not (tmp_path / "store").exists()


def test_a_table_split_later_is_never_there_twice(write, tmp_path):
    """Imported whole, as the note says, and then split by video: the first import goes first."""
    lines = [f"{v}{i},{v},{i}.5,{i + 1},take,pan" for v in "abc" for i in range(3)]
    table = write({"all.csv": "uid,video,start,stop,verb,noun\n" + "\n".join(lines) + "\n"})
    path = tmp_path / "store"
    whole = run("import", "table", table / "all.csv", path)
    assert whole.exit_code == 0
    assert "all.csv is one split, 'all'; --split-by-video" in whole.stderr
    again = ("import", "table", table / "all.csv", path, "--split-by-video", 0.3)
    for more in ((), ("--overwrite",)):
        refused = run(*again, *more)
        assert refused.exit_code == 2
        assert "the split 'all' has 9 of these segments already" in refused.stderr
    assert Store.open(path).splits() == ["all"]
    Store.open(path).remove("labels/all")
    assert run(*again).exit_code == 0
    assert [len(Store.open(path).labels(s).videos) for s in ("train", "validation")] == [2, 1]


def test_own_table_with_name_and_frames(write, tmp_path):
    text = "uid,video,start,stop,verb,noun\na,one,25,50,take,pan\n"
    folder = write({"train.csv": text})
    result = run("import", "table", folder, tmp_path / "store", "--fps", "25", "--name", "mine")
    assert result.exit_code == 0, result.output
    assert Store.open(tmp_path / "store").labels("train").start_s.tolist() == [1.0]
    assert Store.open(tmp_path / "store").dataset == "mine"
