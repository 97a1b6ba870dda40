"""Checkpoints and teachers that are damaged, missing or of the wrong kind: one line each."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from antcache.errors import BadCheckpoint, BadConfig, NotFound
from antcache.teacher.base import load_teacher, save_teacher
from antcache.teacher.histories import HistoryConfig

pytest.importorskip("transformers")


def settings(folder, **values):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **values}))


def own_code(folder):
    """Code of its own, for which transformers would ask on stdin, and wait 15 s."""
    auto = {name: f"evil.{name}" for name in ("AutoConfig", "AutoModel", "AutoTokenizer")}
    settings(folder, model_type="evil", auto_map=auto)
    (folder / "evil.py").write_text("raise SystemExit('run')\n")


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch):
    def refuse(*_):
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("builtins.input", refuse)


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda f: (f / "config.json").unlink(), NotFound, "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), BadConfig, "can't be used"),
        (lambda f: (f / "config.json").write_text('{"model_type": "oracle"}'), BadConfig, "oracle"),
        (lambda f: (f / "model.safetensors").unlink(), BadConfig, "no weights"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            BadConfig,
            "pickle, which is not read",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 9), BadConfig, "can't be used"),
        (lambda f: (f / "tokenizer.json").write_text("{"), BadConfig, "can't be used"),
        (lambda f: (f / "config.json").write_text("[" * 10**5), BadConfig, "nested too deeply"),
        (lambda f: settings(f, num_hidden_layers=10**9), BadConfig, "more than 1000"),
        (lambda f: settings(f, hidden_size=10**6), BadConfig, r"a model of \d{14} bytes"),
        (lambda f: own_code(f), BadConfig, "can't be used"),
    ],
)
def test_a_broken_checkpoint_is_refused_with_one_line(
    damage, error, words, make, language_models, labelled, tmp_path
):
    folder = shutil.copytree(language_models("bert"), tmp_path / "model")
    damage(folder)
    with pytest.raises(error, match=words) as raised:
        make(model=folder).fit(labelled)
    assert "\n" not in str(raised.value)


def test_weights_that_are_missing_are_not_made_up(make, language_models, labelled, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(language_models("bert"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadConfig, match=r"missing.*layer\.1\.output\.dense\.weight"):
        make(model=folder).fit(labelled)
    make(model=folder, init="random").fit(labelled)


def test_a_wrong_path_and_an_unreachable_hub_are_named(make, labelled, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path, words in ((tmp_path / "none", "no such folder"), (tmp_path / "file", "a file")):
        with pytest.raises(NotFound, match=words):
            make(model=path).fit(labelled)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(NotFound, match="check the name and the network") as raised:
        make(model="nobody/no-such-model").fit(labelled)
    assert "\n" not in str(raised.value)


def test_a_model_of_the_hub_is_read_from_where_it_was_fetched(
    make, language_models, labelled, monkeypatch
):
    asked = []

    def fetch(name, revision, allow_patterns):
        asked.append((name, revision))
        assert not [p for p in allow_patterns if "bin" in p or "pickle" in p]
        return str(language_models("bert"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    teacher = make(model="somebody/model", revision="v1")
    teacher.fit(labelled)
    assert asked == [("somebody/model", "v1")]
    local = make()
    local.fit(labelled)
    np.testing.assert_array_equal(teacher.predict(labelled).logits, local.predict(labelled).logits)


def test_a_teacher_that_was_not_trained_says_so(make, labelled):
    for ask in (make().arrays, lambda: make().predict(labelled).logits):
        with pytest.raises(BadConfig, match="this teacher was not trained yet"):
            ask()
    with pytest.raises(BadCheckpoint, match="files of the language model are missing"):
        make().restore({})
    teacher = make()
    teacher.fit(labelled)
    arrays = teacher.arrays()
    with pytest.raises(BadCheckpoint, match="for another tokenizer"):
        teacher.restore({**arrays, "tokens": arrays["tokens"] + 1})


def test_models_and_poolings_that_do_not_fit_are_refused(make, labelled):
    with pytest.raises(BadConfig, match="first token of a causal model"):
        make("gpt2", pooling="first").fit(labelled)
    with pytest.raises(BadConfig, match="not trained yet"):
        make().predict(labelled)
    with pytest.raises(BadConfig, match="nothing to train on"):
        make().fit(labelled[:0])


def test_a_model_with_encoder_and_decoder_is_refused(make, labelled, tmp_path, language_models):
    folder = shutil.copytree(language_models("bert"), tmp_path / "model")
    settings = {"model_type": "t5", "d_model": 8, "num_layers": 1, "vocab_size": 99}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BadConfig, match="not a model of one text"):
        make(model=folder).fit(labelled)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: shutil.rmtree(f / "model"), "language model can't be read"),
        (lambda f: (f / "model" / "config.json").write_text("[]"), "language model can't be read"),
        (lambda f: (f / "model" / "tokenizer.json").unlink(), "language model can't be read"),
        (lambda f: (f / "teacher.safetensors").write_bytes(b"0"), "learned can't be read"),
    ],
)
def test_a_broken_teacher_is_refused(damage, words, make, labelled, taxonomy, tmp_path):
    teacher = make()
    teacher.fit(labelled)
    save_teacher(teacher, HistoryConfig(), tmp_path / "teacher")
    damage(tmp_path / "teacher")
    with pytest.raises(BadCheckpoint, match=words) as raised:
        load_teacher(tmp_path / "teacher", taxonomy)
    assert "\n" not in str(raised.value)
