"""Models that the teacher benchmark takes by name."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def named(benchmark, monkeypatch, language_models):
    """The benchmark's module, with a small model in the place of MiniLM."""
    module = benchmark("language_models")
    monkeypatch.setattr(module, "_minilm", lambda: language_models("bert"))
    return module


def test_an_architecture_with_random_weights_trains(named, monkeypatch, tmp_path, make, labelled):
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setitem(named.CONFIGS, "tiny", sizes)
    settings = named.with_model({"model": "config:tiny", "epochs": 1}, tmp_path)
    teacher = make(**settings)
    teacher.fit(labelled)
    assert teacher.predict(labelled[:2]).features.shape == (2, 24)
    before = (tmp_path / "config-tiny" / "model.safetensors").read_bytes()
    assert named.language_model("config:tiny", tmp_path) == settings["model"]
    assert (tmp_path / "config-tiny" / "model.safetensors").read_bytes() == before


def test_hub_ids_and_settings_without_a_model_pass(named, tmp_path):
    hub_id = "google-bert/bert-base-uncased"
    assert named.language_model(hub_id, tmp_path) == hub_id
    assert named.with_model({"times": True}, tmp_path) == {"times": True}


@pytest.mark.parametrize("name", ["adapted", "adapted:minilm"])
def test_what_is_adapted_is_not_adapted_again(named, tmp_path, name):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "adapted").mkdir()
    assert named.language_model(name, tmp_path) == str(tmp_path / "adapted")


def test_an_unknown_architecture(named, tmp_path):
    with pytest.raises(SystemExit, match=r"no such architecture: bert; there are bert-base"):
        named.language_model("config:bert", tmp_path)


def test_names_are_embedded_one_by_one(named) -> None:
    names = ["take_knife", "take knife", "wash-up plate", "put"]
    together = named.name_embeddings(names)
    assert together.shape == (4, together.shape[1])
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(together[0], together[1])
    for row, name in zip(together, names, strict=True):  # padding counts for nothing
        np.testing.assert_allclose(named.name_embeddings([name])[0], row, atol=1e-6)
    assert abs(together[0] @ together[2]) < 0.9999
