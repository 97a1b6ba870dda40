"""A decoder asked as it is: scores against whole texts, what is kept, and what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from antcache.errors import BadCheckpoint, BadConfig
from antcache.teacher.base import load_teacher, make_teacher, save_teacher
from antcache.teacher.histories import Examples, HistoryConfig
from antcache.teacher.language.text import action_texts

pytest.importorskip("transformers")
SMALL = {"length": 4, "attended": 2, "prompt": "take pan:", "precision": "float32"}
HISTORIES = np.array([[-1, -1, -1, -1], [3, 5, 0, 11], [-1, -1, -1, 7], [1, 2, 0, 11]])


def asked(histories=HISTORIES):
    targets = np.zeros(len(histories), dtype=np.int64)
    return Examples(history=histories, target=targets, group=np.arange(len(histories)))


@pytest.fixture
def make(language_models, taxonomy):
    def teacher(**settings):
        model = settings.pop("model", None) or language_models("gpt2")
        made = make_teacher("prompted", taxonomy, {"model": model, **SMALL, **settings})
        made.fit(asked())
        return made

    return teacher


def whole_text(folder, taxonomy, history, *, mean=False):
    """Scores of all actions, each of its whole text, computed at once and without any cache."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    names = action_texts(taxonomy, "natural")
    prefix = SMALL["prompt"] + "".join(f" {names[a]}," for a in history if a >= 0)
    scores = []
    for name in names:
        start = [tokenizer.bos_token_id, *tokenizer(prefix)["input_ids"]]
        ids = [tokenizer.bos_token_id, *tokenizer(f"{prefix} {name},")["input_ids"]]
        with torch.inference_mode():
            p = model(torch.tensor([ids])).logits[0].log_softmax(1)
        own = [float(p[i - 1, ids[i]]) for i in range(len(start), len(ids))]
        scores.append(np.mean(own) if mean else np.sum(own))
    return scores


@pytest.mark.parametrize("normalize", ["none", "tokens"])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_scores_are_those_of_whole_texts(make, language_models, taxonomy, normalize, batch):
    found = make(normalize=normalize, batch=batch).predict(asked()).logits
    assert found.dtype == np.float32
    assert len({len(n.split()) for n in action_texts(taxonomy, "natural")}) == 1
    for row, history in zip(found, HISTORIES, strict=True):
        expected = whole_text(
            language_models("gpt2"), taxonomy, history[-2:], mean=normalize == "tokens"
        )
        np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_what_is_likely_anywhere_steps_back(make):
    plain = make().predict(asked()).logits
    found = make(against_empty=True).predict(asked()).logits
    np.testing.assert_allclose(found, plain - plain[0], atol=1e-4)


def test_a_text_is_computed_once(make, monkeypatch):
    teacher = make()
    calls = []
    own = type(teacher)._computed
    monkeypatch.setattr(
        type(teacher), "_computed", lambda self, text: calls.append(text) or own(self, text)
    )
    first = teacher.predict(asked()).logits
    assert len(calls) == 3  # the last two actions of two histories are the same
    np.testing.assert_array_equal(first[1], first[3])
    np.testing.assert_array_equal(teacher.predict(asked()).logits, first)
    assert len(calls) == 3


def test_what_was_said_needs_no_model(make, language_models, taxonomy, tmp_path):
    own = tmp_path / "model"
    shutil.copytree(language_models("gpt2"), own)
    teacher = make(model=own)
    said = teacher.predict(asked()).logits
    save_teacher(teacher, HistoryConfig(), tmp_path / "kept")
    (own / "config.json").write_text((own / "config.json").read_text() + " ")
    loaded, _ = load_teacher(tmp_path / "kept", taxonomy)
    np.testing.assert_array_equal(loaded.predict(asked()).logits, said)
    with pytest.raises(BadConfig, match="another model than the one"):
        loaded.predict(asked(np.array([[-1, -1, 9, 9]])))
    (own / "config.json").write_text((own / "config.json").read_text()[:-1])
    new = loaded.predict(asked(np.array([[-1, -1, 9, 9]]))).logits
    np.testing.assert_allclose(new, make().predict(asked(np.array([[1, 1, 9, 9]]))).logits)


def test_damaged_scores_are_refused(make, taxonomy):
    teacher = make()
    teacher.predict(asked())
    arrays = teacher.arrays()
    other = make()
    other.restore(arrays)
    for name in arrays:
        with pytest.raises(BadCheckpoint, match=f"no {name} that fit"):
            other.restore({n: a for n, a in arrays.items() if n != name})
    for name, wrong in (("texts", 12), ("scores", np.nan)):
        changed = {**arrays, name: np.full_like(arrays[name], wrong)}
        with pytest.raises(BadCheckpoint, match="what was said is damaged"):
            other.restore(changed)


def test_what_is_no_decoder_is_refused(make, language_models):
    with pytest.raises(BadConfig, match=r"goes on with a text.*a decoder.*found bert"):
        make(model=language_models("bert"))


def test_a_head_is_not_made_up(make, language_models, tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(language_models("gpt2"), tie_word_embeddings=False)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(language_models("gpt2")).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadConfig, match=r"missing from the checkpoint.*lm_head"):
        make(model=tmp_path)


def test_the_oldest_actions_are_left_out_where_all_do_not_fit(make, taxonomy):
    long = make(attended=4, prompt="w" * 66 + ":")
    prefix = long._names.prefix(np.array([0, 1, 2, 3]))
    whole = [t for action in range(4) for t in long._names.tokens[action]]
    assert len(prefix) + max(map(len, long._names.tokens)) <= 80 < len(prefix) + len(whole)
    assert prefix[-len(long._names.tokens[3]) :] == long._names.tokens[3]
    with pytest.raises(BadConfig, match="a whole action behind the prompt"):
        make(prompt="w" * 80)
    for wrong, match in (({"prompt": " "}, "no prompt"), ({"attended": 9}, "impossible attended")):
        with pytest.raises(BadConfig, match=match):
            make(**wrong)
