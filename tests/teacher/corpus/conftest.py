"""A few recipes in a file, and a lexicon that reads them."""

from __future__ import annotations

import json

import pytest

from antcache.teacher.corpus import make_extractor
from antcache.teacher.corpus.words import WordLists

STEPS = {
    "a": ("train", ["Cut the onion.", "Heat the oil and add the onion."]),
    "b": ("val", ["Wash two plates.", "Serve."]),
    "c": ("train", ["Serve warm.", ""]),
    "d": ("train", ["Boil water; add salt and rice."]),
}


@pytest.fixture
def extractor():
    return make_extractor("lexicon", words=WordLists.of(["cut", "wash"], ["onion", "plate"]))


@pytest.fixture
def layer1(tmp_path):
    """Four recipes in Recipe1M's form; `c` has no object anywhere."""
    recipes = [
        {
            "id": key,
            "title": f"Recipe {key}",
            "partition": partition,
            "url": "",
            "ingredients": [{"text": "1.5 onions"}],
            "instructions": [{"text": text} for text in steps],
        }
        for key, (partition, steps) in STEPS.items()
    ]
    path = tmp_path / "layer1.json"
    path.write_text(json.dumps(recipes, ensure_ascii=False))
    return path
