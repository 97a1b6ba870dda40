"""Texts of actions and histories by hand, and their tokens against those of the whole text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from antcache.annotations import Taxonomy, read_annotations
from antcache.errors import BadConfig
from antcache.teacher.language.text import (
    ActionTokens,
    action_texts,
    action_words,
    add_marks,
    surrounding_tokens,
)

pytest.importorskip("transformers")


def named(dataset, *names, verbs=("v",), nouns=("n",)):
    return Taxonomy(
        dataset=dataset,
        verbs=verbs,
        nouns=nouns,
        actions=names,
        action_verbs=tuple(min(i, len(verbs) - 1) for i in range(len(names))),
        action_nouns=tuple(min(i, len(nouns) - 1) for i in range(len(names))),
    )


def test_words_of_epic_kitchens_55():
    taxonomy = named("epic-kitchens-55", "take_board:cutting", "pick-up_pan", "wash_a:b:c")
    assert action_words(taxonomy) == [
        ("take", "cutting board"),
        ("pick-up", "pan"),
        ("wash", "c b a"),
    ]
    assert action_texts(taxonomy, "paper") == [
        "take <v> cutting board",
        "pick-up <v> pan",
        "wash <v> c b a",
    ]
    natural = action_texts(taxonomy, "natural")
    assert natural == ["take cutting board", "pick up pan", "wash c b a"]


@pytest.mark.parametrize("dataset", ["egtea", "egtea-split2"])
def test_words_of_egtea(dataset):
    taxonomy = named(dataset, "Inspect/Read_recipe", "Divide/Pull Apart_paper:towel")
    assert action_texts(taxonomy, "paper") == [
        "inspect or read <v> recipe",
        "divide or pull apart <v> paper towel",
    ]
    assert action_texts(taxonomy, "natural")[1] == "divide or pull apart paper towel"


def test_words_of_epic_kitchens_100():
    taxonomy = named(
        "epic-kitchens-100",
        "take tap",
        "turn-on board:chopping",
        verbs=("take", "turn-on"),
        nouns=("tap", "board:chopping"),
    )
    assert action_texts(taxonomy, "paper") == ["take <v> tap", "turn-on <v> chopping board"]
    assert action_texts(taxonomy, "natural") == ["take tap", "turn on chopping board"]


@pytest.mark.parametrize("form", ["natural", "paper"])
@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])  # wordpiece, unigram, bytes
def test_tokens_are_those_of_the_whole_text(family, form, language_models, taxonomy, history_text):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(language_models(family))
    if form == "paper":
        add_marks(tokenizer)
    before, after = surrounding_tokens(tokenizer)
    texts = action_texts(taxonomy, form)
    tokens = ActionTokens.of(tokenizer, texts, form, None)
    history = np.random.default_rng(0).integers(-1, 12, (60, 4))
    history[:3] = -1
    flat, starts = tokens.encode(history)
    for i, row in enumerate(history):
        text = history_text(row, texts, form)
        whole = [*before, *tokenizer(text, add_special_tokens=False)["input_ids"], *after]
        ours = tokens.vocabulary[flat[starts[i] : starts[i + 1]]].tolist()
        assert ours == whole, text
        if family != "gpt2":
            assert tokenizer(text)["input_ids"] == whole
        if form == "paper":
            marks = tokenizer.convert_tokens_to_ids(["<v>", "<a>"])
            named = (row >= 0).sum()
            assert [whole.count(m) for m in marks] == [named, max(named - 1, 0)]


class Odd:
    """A tokenizer that does with a text what `read` says."""

    def __init__(self, read, special=()):
        self.read, self.special = read, special
        for name in ("bos", "eos", "cls", "sep", "pad"):
            setattr(self, f"{name}_token_id", dict(special).get(name))

    def __call__(self, texts, add_special_tokens=True):
        ids = [self.read(t, add_special_tokens) for t in ([texts] if texts == "a" else texts)]
        return {"input_ids": ids[0] if texts == "a" else ids}


def test_tokenizers_that_do_not_work_action_by_action_are_refused():
    with pytest.raises(BadConfig, match=r"changes a text between .*found \[1, 9, 2\]"):
        surrounding_tokens(Odd(lambda text, framed: [1, 9, 2] if framed else [5]))
    plain = Odd(lambda text, framed: [ord(c) for c in text])
    with pytest.raises(BadConfig, match="no special token: expected a begin, end or padding"):
        surrounding_tokens(plain)
    for special in ("bos", "eos", "cls", "sep", "pad"):
        assert surrounding_tokens(Odd(plain.read, [(special, 7)])) == ([7], [])
    assert surrounding_tokens(Odd(plain.read, [("pad", 7), ("eos", 8)])) == ([8], [])
    assert surrounding_tokens(Odd(lambda text, framed: [1, 5, 2] if framed else [5])) == ([1], [2])
    merged = Odd(lambda text, framed: [len(text)], [("bos", 0)])  # one token for any text
    with pytest.raises(BadConfig, match="does not read a text action by action: found one"):
        ActionTokens.of(merged, ("one", "two"), "natural", None)


def test_a_long_history_loses_its_oldest_actions(language_models, taxonomy):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(language_models("bert"))
    texts = action_texts(taxonomy, "natural")
    free = ActionTokens.of(tokenizer, texts, "natural", None)
    history = np.random.default_rng(0).integers(0, 12, (30, 6))
    tight = replace(free, limit=18)
    _, starts = tight.encode(history)
    assert np.diff(starts).max() <= 18
    for row in history:
        kept = row.copy()
        while len(free.encode(kept[None])[0]) > 18:
            kept = kept[1:]
        np.testing.assert_array_equal(tight.encode(row[None])[0], free.encode(kept[None])[0])
    with pytest.raises(BadConfig, match="does not read a whole action"):
        ActionTokens.of(tokenizer, texts, "natural", 4)


def test_marks_are_added_once(language_models):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(language_models("bert"))
    size = len(tokenizer)
    assert add_marks(tokenizer) == 2
    assert add_marks(tokenizer) == 0
    assert len(tokenizer) == size + 2
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    assert {"<v>", "<a>"} <= added


def test_real_names_become_words(data_dir):
    for dataset, count in (("epic-kitchens-55", 2513), ("egtea", 106)):
        taxonomy = read_annotations(dataset, data_dir / dataset).taxonomy
        texts = action_texts(taxonomy, "natural")
        assert len(texts) == count
        assert all(text.replace(" ", "").isalnum() for text in texts), dataset
        assert len(set(texts)) == count
