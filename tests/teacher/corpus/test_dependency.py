"""The dependency extractor, on parses made by hand: no model is needed, none is measured."""

from __future__ import annotations

import sys

import pytest

from antcache.errors import BadConfig, MissingExtra, NotFound
from antcache.teacher.corpus import make_extractor

spacy = pytest.importorskip("spacy")

from spacy.tokens import Doc  # noqa: E402

from antcache.teacher.corpus.dependency import (  # noqa: E402
    DependencyExtractor,
    actions_of,
    as_statements,
)

TAGS = {"v": ("VERB", "VB"), "g": ("VERB", "VBG"), "z": ("VERB", "VBZ"), "n": ("NOUN", "NN")}
TAGS |= {"N": ("NOUN", "NNS"), "p": ("PRON", "PRP"), "a": ("ADJ", "JJ"), "d": ("DET", "DT")}
TAGS |= {"i": ("ADP", "IN"), "c": ("CCONJ", "CC"), "r": ("ADV", "RB"), "m": ("AUX", "MD")}
TAGS |= {".": ("PUNCT", "."), "R": ("ADP", "RP"), "#": ("NUM", "CD"), "x": ("PART", "RB")}
TAGS |= {"b": ("AUX", "VBZ"), "P": ("VERB", "VBD")}
LEMMAS = {"onions": "onion", "eggs": "egg", "tomatoes": "tomato", "cans": "can", "cooking": "cook"}
LEMMAS |= {"others": "other"}

# Each word as word/kind/dependency/head, the head counted from the first word of the text.
PARSES = {
    "cut the onions": (
        "cut/v/ROOT/0 the/d/det/2 onions/N/dobj/0",
        [("cut", "onion")],
    ),
    "peel and cut the onions": (
        "peel/v/ROOT/0 and/c/cc/0 cut/v/conj/0 the/d/det/4 onions/N/dobj/2",
        [("peel", "onion"), ("cut", "onion")],
    ),
    "cover and steam the eggs": (
        "cover/v/ROOT/0 and/c/cc/0 steam/v/conj/0 the/d/det/4 eggs/N/dobj/2",
        [("cover", None), ("steam", "egg")],
    ),
    "turn off the heat": (
        "turn/v/ROOT/0 off/R/prt/0 the/d/det/3 heat/n/dobj/0",
        [("turn off", "heat")],
    ),
    "set the pan aside": (
        "set/v/ROOT/0 the/d/det/2 pan/n/dobj/0 aside/r/advmod/0",
        [("set aside", "pan")],
    ),
    "wash the large cutting board": (
        "wash/v/ROOT/0 the/d/det/4 large/a/amod/4 cutting/n/compound/4 board/n/dobj/0",
        [("wash", "cutting board")],
    ),
    "slice bell pepper": (
        "slice/v/ROOT/0 bell/a/amod/2 pepper/n/dobj/0",
        [("slice", "bell pepper")],
    ),
    "add salt , oil and eggs": (
        "add/v/ROOT/0 salt/n/dobj/0 ,/./punct/1 oil/n/conj/1 and/c/cc/3 eggs/N/conj/3",
        [("add", "salt"), ("add", "oil"), ("add", "egg")],
    ),
    "drain two cans of tomatoes": (
        "drain/v/ROOT/0 two/#/nummod/2 cans/N/dobj/0 of/i/prep/2 tomatoes/N/pobj/3",
        [("drain", "tomato")],
    ),
    "beat the eggs and pour them": (
        "beat/v/ROOT/0 the/d/det/2 eggs/N/dobj/0 and/c/cc/0 pour/v/conj/0 them/p/dobj/4",
        [("beat", "egg"), ("pour", "egg")],
    ),
    "put the eggs aside": (
        "put/P/ROOT/0 the/d/det/2 eggs/N/dobj/0 aside/r/advmod/0",
        [("put aside", "egg")],
    ),
    "you can peel and cut the onions": (
        "you/p/nsubj/2 can/m/aux/2 peel/v/ROOT/2 and/c/cc/2 cut/v/conj/2 the/d/det/6 "
        "onions/N/dobj/4",
        [("peel", "onion"), ("cut", "onion")],
    ),
    "stir in the oil": (
        "stir/v/ROOT/0 in/i/prep/0 the/d/det/3 oil/n/pobj/1",
        [("stir in", "oil")],
    ),
    "stir in the pan": (
        "stir/v/ROOT/0 in/i/prep/0 the/d/det/3 pan/n/pobj/1",
        [("stir", None)],
    ),
    "cook in the oil": (
        "cook/v/ROOT/0 in/i/prep/0 the/d/det/3 oil/n/pobj/1",
        [("cook", None)],
    ),
    "fry it": ("fry/v/ROOT/0 it/p/dobj/0", [("fry", None)]),
    "take the others": ("take/v/ROOT/0 the/d/det/2 others/N/dobj/0", [("take", None)]),
    "take the others and fry them": (
        "take/v/ROOT/0 the/d/det/2 others/N/dobj/0 and/c/cc/0 fry/v/conj/0 them/p/dobj/4",
        [("take", None), ("fry", None)],
    ),
    "take the rest": ("take/v/ROOT/0 the/d/det/2 rest/n/dobj/0", [("take", None)]),
    "let the dough rest": (
        "let/v/ROOT/0 the/d/det/2 dough/n/nsubj/3 rest/v/ccomp/0",
        [("rest", "dough")],
    ),
    "start cooking the eggs": (
        "start/v/ROOT/0 cooking/g/xcomp/0 the/d/det/3 eggs/N/dobj/1",
        [("cook", "egg")],
    ),
    "do n't stir the eggs": (
        "do/v/aux/2 n't/x/neg/2 stir/v/ROOT/2 the/d/det/4 eggs/N/dobj/2",
        [],
    ),
    "you can use stock": (
        "you/p/nsubj/2 can/m/aux/2 use/v/ROOT/2 stock/n/dobj/2",
        [("use", "stock")],
    ),
    "the sauce thickens": ("the/d/det/1 sauce/n/nsubj/2 thickens/z/ROOT/2", []),
    "they eat eggs": ("they/p/nsubj/1 eat/v/ROOT/1 eggs/N/dobj/1", []),
    "it is hot , add oil": (
        "it/p/nsubj/1 is/b/ROOT/1 hot/a/acomp/1 ,/./punct/1 add/v/parataxis/1 oil/n/dobj/4",
        [("add", "oil")],
    ),
}


@pytest.fixture(scope="module")
def pipeline():
    """A pipeline whose parser knows the sentences above by heart, also after "You can"."""
    nlp = spacy.blank("en")

    def parse(doc):
        text = doc.text.removeprefix("You can ").removesuffix(".")
        words = [word.rsplit("/", 3) for word in PARSES.get(text, PARSES["fry it"])[0].split()]
        return Doc(
            nlp.vocab,
            words=[word for word, _, _, _ in words],
            pos=[TAGS[kind][0] for _, kind, _, _ in words],
            tags=[TAGS[kind][1] for _, kind, _, _ in words],
            deps=[dep for _, _, dep, _ in words],
            heads=[int(head) for _, _, _, head in words],
            lemmas=[LEMMAS.get(word, word) for word, _, _, _ in words],
        )

    spacy.Language.component("antcache_test_parser", func=parse)
    nlp.add_pipe("antcache_test_parser")
    return nlp


@pytest.mark.parametrize("text", list(PARSES))
def test_parses(pipeline, text):
    assert [tuple(action) for action in actions_of(pipeline(text))] == PARSES[text][1]


@pytest.mark.parametrize(
    ("instruction", "read"),
    [
        ("Add salt.", "You can add salt."),
        ("Add 2 tbsp. oil; stir", "You can add 2 tbsp oil. You can stir."),
        ("When it boils, add salt!", "When it boils, add salt."),
        ("Do not stir. The dough rises.", "Do not stir. The dough rises."),
        ("2 eggs. Stirring slowly, serve.", "2 eggs. Stirring slowly, serve."),
        ("", ""),
    ],
)
def test_commands_are_read_as_statements(instruction, read):
    assert as_statements(instruction) == read


def test_instructions_stay_apart_and_the_model_is_on_record(pipeline):
    extractor = DependencyExtractor(pipeline, "by-hand")
    texts = ["Cut the onions.", "Fry it."]
    assert extractor.actions(texts) == [[("cut", "onion")], [("fry", None)]]
    assert extractor.settings["spacy_model"] == "by-hand"


def test_a_pipeline_that_does_not_parse():
    with pytest.raises(BadConfig, match=r"en-blank: the spaCy pipeline does not parse.*DEP"):
        DependencyExtractor(spacy.blank("en"), "en-blank")


def test_a_model_that_is_not_installed():
    with pytest.raises(NotFound, match=r"en_no_such_model.*--extractor lexicon"):
        make_extractor("dependency", spacy_model="en_no_such_model")


def test_without_spacy(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtra, match=r"antcache\[parse\]"):
        make_extractor("dependency")
