"""A student on a hub: the same bits from its id, and one line where it can't be had."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hub import Hub, point

from antcache.cli.main import cli
from antcache.errors import BadCheckpoint, NotFound
from antcache.student.handing.exporting import export_student
from antcache.student.runs.kept import KeptStudent

REPO = "kitchen/anticipator"


@pytest.fixture
def run(make_run, small):
    return make_run(small.replace(verb_noun_weight=0.5))[1]


def invoke(*words: object):
    return CliRunner().invoke(cli, [*map(str, words)])


def test_a_hub_id_gives_the_same_bits(hub: Hub, run, tmp_path) -> None:
    done = invoke("student", "push", run, REPO, "--license", "mit")
    assert done.exit_code == 0, done.output
    assert {"README.md", "config.json", "model.safetensors"} <= set(hub.files(REPO, "models"))
    own, handed = KeptStudent.load(run), KeptStudent.load(REPO)
    features = torch.randn((3, *own.shape.window), generator=torch.Generator().manual_seed(0))
    assert torch.equal(own.predictor(features).logits, handed.predictor(features).logits)
    assert handed.taxonomy == own.taxonomy
    assert b"# anticipator" in hub.files(REPO, "models")["README.md"]
    export_student(REPO, tmp_path / "copy")
    assert KeptStudent.load(tmp_path / "copy").streams == own.streams


def test_only_what_a_student_is_made_of_is_fetched(hub: Hub, run) -> None:
    assert not invoke("student", "push", run, REPO).exit_code
    hub.files(REPO, "models").update({"modeling.py": b"x", "weights.bin": b"x"})
    KeptStudent.load(REPO)
    assert not {"modeling.py", "weights.bin"} & set(hub.fetched)


def test_bad_input_takes_one_line(hub: Hub, run, tmp_path, monkeypatch) -> None:
    hub.repos["models", "kitchen/other"] = [{"README.md": b"x"}]
    with pytest.raises(NotFound, match="no public model of this name"):
        KeptStudent.load("kitchen/nothing")
    with pytest.raises(NotFound, match="no student in this repository"):
        KeptStudent.load("kitchen/other")
    with pytest.raises(NotFound, match="a URL is no student's name"):
        KeptStudent.load("https://huggingface.co/kitchen/other")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    asked = [
        ((run, REPO), "no token, or one that is not valid"),
        ((tmp_path / "x", REPO), "no such folder: expected the folder of a run"),
    ]
    for words, expected in asked:
        done = invoke("student", "push", *words)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        assert expected in done.stderr
    point(monkeypatch, "http://127.0.0.1:9")
    done = invoke("student", "push", run, REPO)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "no answer of the hub" in done.stderr
    with pytest.raises(NotFound, match="no answer of the hub"):
        KeptStudent.load(REPO)


def test_other_weights_than_the_hub_lists_are_refused(hub: Hub, run) -> None:
    assert not invoke("student", "push", run, REPO).exit_code
    data = hub.files(REPO, "models")["model.safetensors"]
    hub.spoiled["resolve/.*model.safetensors"] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(BadCheckpoint, match="other weights came than the hub lists") as error:
        KeptStudent.load(REPO)
    hub.spoiled.clear()
    Path(str(error.value).partition(":")[0]).unlink()  # as the error says
    assert KeptStudent.load(REPO).config == KeptStudent.load(run).config


@pytest.mark.parametrize("said", [b"<html>", b"null", b"[1]", b'{"a": 1}', b"[" * 100_000])
def test_a_hub_that_talks_nonsense_takes_one_line(hub: Hub, run, tmp_path, said: bytes) -> None:
    hub.repos["models", REPO] = [{}]
    hub.spoiled["^/api/"] = said
    done = invoke("student", "push", run, REPO)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert "an answer that is no hub's" in done.stderr
    done = invoke("student", "export", REPO, tmp_path / "out")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert "an answer that is no hub's" in done.stderr
