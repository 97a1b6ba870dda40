"""`antcache teacher corpus`: what it prints, where it takes its words from, how it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.store import Store
from antcache.teacher.corpus import read_corpus

CLASSES = {
    "EPIC_verb_classes.csv": "verb_id,class_key,verbs\n0,cut,\"['cut', 'turn-on']\"\n",
    "EPIC_noun_classes.csv": "noun_id,class_key,nouns\n0,onion,\"['onion', 'board:cutting']\"\n",
}


@pytest.fixture
def classes(tmp_path):
    folder = tmp_path / "classes"
    folder.mkdir()
    for name, text in CLASSES.items():
        (folder / name).write_text(text)
    return folder


def run(*words):
    return CliRunner().invoke(cli, ["teacher", "corpus", *map(str, words)])


def refused(*words):
    """The one line that the command ends with."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_json_and_table(layer1, tmp_path, classes):
    out = tmp_path / "corpus"
    result = run(layer1, "-o", out, "--annotations", classes, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["corpus"], facts["pairs"], facts["verbs"]) == (str(out), 7, 5)
    assert facts["settings"] == {"verbs": 2, "nouns": 2}
    words = ["--annotations", classes, "--overwrite", "--partition", "train, val"]
    table = run(layer1, "-o", out, *words).stdout
    assert "lexicon extractor; train 2, val 1" in table
    assert "verb-object pairs" in table
    assert len(list(read_corpus(out))) == 3


def test_words_from_a_store(layer1, tmp_path, splits, taxonomy):
    store = Store.create(tmp_path / "kitchen")
    store.write_labels("train", splits["train"], taxonomy, source="test")
    result = run(
        layer1, "-o", tmp_path / "c", "--taxonomy-from", store.path, "--partition", "val", "--json"
    )
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["partitions"] == {"val": 1}
    assert facts["settings"] == {"verbs": len(taxonomy.verbs), "nouns": len(taxonomy.nouns)}


def test_a_store_whose_verbs_are_numbers(layer1, tmp_path, splits, taxonomy):
    store = Store.create(tmp_path / "kitchen")
    numbers = replace(taxonomy, verbs=("0", "1", "2", "3"))
    store.write_labels("train", splits["train"], numbers, source="test")
    words = refused(layer1, "-o", tmp_path / "c", "--taxonomy-from", store.path)
    assert "the verbs of this taxonomy have no names" in words
    assert "found '0'" in words


def test_refusals(layer1, tmp_path, classes):
    out = tmp_path / "corpus"
    assert "--taxonomy-from STORE" in refused(layer1, "-o", out)
    both = ["--annotations", classes, "--taxonomy-from", tmp_path]
    assert "two sources of words" in refused(layer1, "-o", out, *both)
    assert "no class file of verbs" in refused(layer1, "-o", out, "--annotations", tmp_path)
    words = ["--annotations", classes]
    assert "no recipe file" in refused(tmp_path / "none.json", "-o", out, *words)
    assert "'regex' is not one of" in refused(layer1, "-o", out, "--extractor", "regex")
    assert "no word lists" in refused(layer1, "-o", out, "--extractor", "dependency", *words)
    assert "no spaCy model" in refused(layer1, "-o", out, "--spacy-model", "x", *words)
    assert "'test'" in refused(layer1, "-o", out, *words, "--partition", "test")
    assert not out.exists()


@pytest.mark.parametrize("cell", ["cut", "[1]", "['cut'", "{}"])
def test_class_files_of_another_form(layer1, tmp_path, classes, cell):
    path = classes / "EPIC_verb_classes.csv"
    path.write_text(f'verb_id,class_key,verbs\n0,cut,"{cell}"\n')
    message = refused(layer1, "-o", tmp_path / "c", "--annotations", classes)
    assert f"{path}:2: bad verbs" in message
