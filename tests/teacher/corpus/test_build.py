"""A corpus written and read back: what is in it, what is refused, what an interrupt leaves."""

from __future__ import annotations

import json
import sys

import pyarrow
import pyarrow.parquet
import pytest

from antcache.errors import (
    AlreadyExists,
    BadAnnotations,
    BadConfig,
    MissingExtra,
    NotFound,
)
from antcache.teacher.corpus import (
    CorpusConfig,
    action_text,
    corpus_facts,
    make_extractor,
    read_actions,
    read_corpus,
    write_corpus,
)

TEXTS = [
    "cut <v> onion <a> heat <v> oil <a> add <v> onion",
    "wash <v> plate",
    "boil <v> water <a> add <v> salt <a> add <v> rice",
]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_rows_text_and_counts(layer1, tmp_path, extractor):
    facts = write_corpus(layer1, tmp_path / "corpus", extractor)
    rows = pyarrow.parquet.read_table(tmp_path / "corpus" / "recipes.parquet").to_pylist()
    assert [row["text"] for row in rows] == TEXTS
    assert rows[0] == {
        "id": "a",
        "partition": "train",
        "title": "Recipe a",
        "text": TEXTS[0],
        "verbs": ["cut", "heat", "add"],
        "objects": ["onion", "oil", "onion"],
        "n_actions": 3,
    }
    verbs = pyarrow.parquet.read_table(tmp_path / "corpus" / "verbs.parquet").to_pylist()
    assert verbs[:2] == [{"verb": "add", "count": 3}, {"verb": "boil", "count": 1}]
    objects = pyarrow.parquet.read_table(tmp_path / "corpus" / "objects.parquet").to_pylist()
    assert objects[0] == {"object": "onion", "count": 2}
    assert facts == corpus_facts(tmp_path / "corpus")
    assert facts["partitions"] == {"train": 2, "val": 1}
    assert {k: facts[k] for k in ("recipes", "recipes_without_pairs", "instructions", "pairs")} == {
        "recipes": 3,
        "recipes_without_pairs": 1,
        "instructions": 7,
        "pairs": 7,
    }
    assert facts["actions_without_object"] == 2
    assert facts["extractor"] == "lexicon"
    assert facts["source_bytes"] == layer1.stat().st_size
    assert names(tmp_path) == ["corpus", "layer1.json"]


def test_reading_back(layer1, tmp_path, extractor):
    write_corpus(layer1, tmp_path / "corpus", extractor, CorpusConfig(rows_per_group=1))
    assert pyarrow.parquet.ParquetFile(tmp_path / "corpus/recipes.parquet").num_row_groups == 3
    assert list(read_corpus(tmp_path / "corpus")) == TEXTS
    assert list(read_corpus(tmp_path / "corpus", "val")) == TEXTS[1:2]
    pairs = list(read_actions(tmp_path / "corpus", "train"))
    assert [action_text(*pair) for pair in pairs] == [TEXTS[0], TEXTS[2]]


def test_only_some_partitions(layer1, tmp_path, extractor):
    facts = write_corpus(layer1, tmp_path / "c", extractor, CorpusConfig(partitions=("val",)))
    assert facts["partitions"] == {"val": 1}
    assert facts["instructions"] == 2
    with pytest.raises(BadConfig, match=r"no such partition.*expected val, found train"):
        read_corpus(tmp_path / "c", "train")


def test_a_partition_that_no_recipe_has(layer1, tmp_path, extractor):
    config = CorpusConfig(partitions=("train", "test"))
    with pytest.raises(BadConfig, match=r"'test'.*train \(3\), val \(1\)"):
        write_corpus(layer1, tmp_path / "corpus", extractor, config)
    assert names(tmp_path) == ["layer1.json"]


def test_recipes_in_which_nothing_is_found(tmp_path, extractor):
    path = tmp_path / "r.json"
    steps = [{"text": "Zwiebeln sind gut."}]
    path.write_text(json.dumps([{"id": "1", "partition": "train", "instructions": steps}]))
    with pytest.raises(BadAnnotations, match="no instruction has a verb"):
        write_corpus(path, tmp_path / "corpus", extractor)


def test_nothing_is_overwritten_unasked(layer1, tmp_path, extractor):
    folder = tmp_path / "corpus"
    write_corpus(layer1, folder, extractor, CorpusConfig(partitions=("val",)))
    with pytest.raises(AlreadyExists, match="--overwrite"):
        write_corpus(layer1, folder, extractor)
    assert list(read_corpus(folder)) == TEXTS[1:2]
    write_corpus(layer1, folder, extractor, overwrite=True)
    assert list(read_corpus(folder)) == TEXTS
    assert names(tmp_path) == ["corpus", "layer1.json"]


def test_what_is_no_corpus_is_never_replaced(layer1, tmp_path, extractor):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(AlreadyExists, match="not a corpus"):
        write_corpus(layer1, tmp_path / "mine", extractor, overwrite=True)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError("no space left")])
def test_an_interruption_leaves_what_was_there(layer1, tmp_path, extractor, failure):
    """Both with a corpus there and without."""

    def stop(label: str, done: float, total: float) -> None:
        raise failure

    folder = tmp_path / "corpus"
    with pytest.raises((KeyboardInterrupt, OSError)):
        write_corpus(layer1, folder, extractor, progress=stop)
    assert names(tmp_path) == ["layer1.json"]
    write_corpus(layer1, folder, extractor)
    with pytest.raises((KeyboardInterrupt, OSError)):
        write_corpus(layer1, folder, extractor, overwrite=True, progress=stop)
    assert list(read_corpus(folder)) == TEXTS
    assert names(tmp_path) == ["corpus", "layer1.json"]


def test_broken_json_leaves_nothing(layer1, tmp_path, extractor):
    layer1.write_text(layer1.read_text()[:-30])
    with pytest.raises(BadAnnotations, match="recipe 4"):
        write_corpus(layer1, tmp_path / "corpus", extractor)
    assert names(tmp_path) == ["layer1.json"]


def test_progress_is_in_bytes(layer1, tmp_path, extractor):
    told: list[tuple[str, float, float]] = []
    write_corpus(layer1, tmp_path / "c", extractor, progress=lambda *args: told.append(args))
    size = layer1.stat().st_size
    assert told[-1] == ("bytes read", size, size)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_damaged_and_missing_corpora(layer1, tmp_path, extractor):
    with pytest.raises(NotFound, match="antcache teacher corpus"):
        read_corpus(tmp_path)
    folder = tmp_path / "corpus"
    write_corpus(layer1, folder, extractor)
    recipes = folder / "recipes.parquet"
    data = recipes.read_bytes()
    recipes.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadAnnotations, match=r"recipes\.parquet: the corpus is damaged"):
        read_corpus(folder)
    table = pyarrow.table({"id": ["a"], "text": ["cut <v> onion"]})
    pyarrow.parquet.write_table(table, recipes)
    with pytest.raises(BadAnnotations, match=r"recipes\.parquet: .*no column partition"):
        read_corpus(folder)
    footer = 8 + int.from_bytes(data[-8:-4], "little")  # as it was; the rows before are not
    recipes.write_bytes(data[:4] + bytes(len(data) - footer - 4) + data[-footer:])
    with pytest.raises(BadAnnotations, match=r"recipes\.parquet: the corpus is damaged"):
        list(read_corpus(folder))
    recipes.unlink()
    with pytest.raises(NotFound, match="lacks its recipes"):
        read_corpus(folder)
    (folder / "corpus.json").write_text('{"format": "other"}')
    with pytest.raises(BadAnnotations, match="unknown format"):
        corpus_facts(folder)
    (folder / "corpus.json").write_text("{")
    with pytest.raises(BadAnnotations, match="can't be read"):
        corpus_facts(folder)


def test_without_pyarrow(layer1, tmp_path, extractor, monkeypatch):
    write_corpus(layer1, tmp_path / "c", extractor)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"antcache\[corpus\]"):
        write_corpus(layer1, tmp_path / "corpus", extractor)
    with pytest.raises(MissingExtra, match=r"antcache\[corpus\]"):
        read_corpus(tmp_path / "c")


def test_extractors_are_checked():
    with pytest.raises(BadConfig, match="lexicon or dependency"):
        make_extractor("regex")
    with pytest.raises(BadConfig, match="--annotations"):
        make_extractor("lexicon")
    with pytest.raises(BadConfig, match="rows_per_group"):
        CorpusConfig(rows_per_group=0)
    with pytest.raises(BadConfig, match="partition"):
        CorpusConfig(partitions=("train", ""))
