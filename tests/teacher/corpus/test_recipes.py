"""Reading recipes as a stream: what comes out, what is refused, and how much memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from antcache.errors import BadAnnotations, NotFound
from antcache.teacher.corpus.recipes import Recipe, read_recipes

GOOD = {"id": "x", "partition": "train", "instructions": [{"text": "Stir."}]}


def test_recipes_come_in_order_with_what_was_read(layer1):
    seen: list[int] = []
    recipes = list(read_recipes(layer1, read=seen.append))
    assert [r.id for r in recipes] == ["a", "b", "c", "d"]
    assert recipes[1] == Recipe(
        id="b", partition="val", title="Recipe b", instructions=("Wash two plates.", "Serve.")
    )
    assert seen == sorted(seen)
    assert seen[-1] == layer1.stat().st_size


def test_a_recipe_needs_no_title(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps([GOOD]))
    assert next(read_recipes(path)).title is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["not a list of recipes", "an empty file"]),
        ('{"a": 1}', ["not a list of recipes", "{"]),
        ("[]", ["the list holds no recipe"]),
        ("[3]", ["recipe 1: not a recipe", "found 3"]),
        (json.dumps([GOOD, {**GOOD, "id": 7}]), ["recipe 2: no id", "found 7"]),
        (json.dumps([{**GOOD, "partition": ""}]), ["recipe 1: no partition"]),
        (json.dumps([{"id": "x", "partition": "p"}]), ["no instructions", "found nothing"]),
        (json.dumps([{**GOOD, "instructions": ["Stir."]}]), ["instruction 1 is no text", "Stir."]),
        (json.dumps([GOOD, GOOD])[:-20], ["recipe 2", "the JSON is broken", "bytes"]),
        (json.dumps([GOOD])[:-1] + ", }]", ["recipe 2", "the JSON is broken"]),
        (json.dumps([GOOD]) + "]", ["the JSON is broken"]),
    ],
)
def test_bad_files(tmp_path, text, words):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(BadAnnotations, match=f"^{path}") as caught:
        list(read_recipes(path))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "r.json"
    path.write_bytes(b'[{"id": "\xff\xfe", "partition": "train", "instructions": []}]')
    with pytest.raises(BadAnnotations, match="recipe 1"):
        list(read_recipes(path))


def test_no_file(tmp_path):
    with pytest.raises(NotFound, match=r"layer1\.json"):
        read_recipes(tmp_path / "none.json")


# In a process of its own, whose peak (`VmHWM`; `ru_maxrss` would begin with that of the process
# that starts it) nothing else has raised. What imports and the first file take is not counted.
MEASURE = """
import sys
from pathlib import Path
from antcache.teacher.corpus import make_extractor, write_corpus
from antcache.teacher.corpus.build import CorpusConfig
from antcache.teacher.corpus.words import WordLists
import pyarrow.parquet
extractor = make_extractor("lexicon", words=WordLists.of(["cut"], ["onion"]))
config = CorpusConfig(rows_per_group=512)
folder = Path(sys.argv[1])
def peak(name):
    write_corpus(folder / f"{name}.json", folder / name, extractor, config)
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) * 1024
warm = peak("small")
print(peak("large") - warm)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no VmHWM here")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """A file 30 times as large as another takes a small part of its own size more."""
    recipe = {**GOOD, "ingredients": [{"text": "onion " * 1000}], "title": "t" * 2000}
    recipe["instructions"] = [{"text": "Cut the onion."}]
    sizes = {"small": 700, "large": 21_000}
    for name, count in sizes.items():
        with (tmp_path / f"{name}.json").open("w") as file:
            file.write("[")
            for i in range(count):
                file.write(("," if i else "") + json.dumps({**recipe, "id": f"r{i}"}))
            file.write("]")
    total = (tmp_path / "large.json").stat().st_size
    assert total > 150e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < total / 10
