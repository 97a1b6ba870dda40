"""A student handed on as a folder: the same bits, a card that says what the run does, refusals."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import AlreadyExists, BadCheckpoint, BadConfig, FingerprintMismatch, NotFound
from antcache.student.config import StudentConfig
from antcache.student.handing.exporting import export_student
from antcache.student.handing.portable import write_portable
from antcache.student.heads.head import ModelShape
from antcache.student.heads.table import HEADS, sizes_of
from antcache.student.model import build_student
from antcache.student.runs.kept import KeptStudent
from antcache.student.runs.predicting import TrainedStudent
from antcache.student.runs.train import train
from antcache.tensors import read_tensors, write_tensors


@pytest.fixture
def trained(make_run, small):
    """A store, and the run of a student with everything that weights may come with."""
    store, run, _ = make_run(small.replace(verb_noun_weight=0.5, ema=0.5, logit_adjustment=0.5))
    return store, run


def invoke(*words: object):
    return CliRunner().invoke(cli, [*map(str, words)])


def windows(kept: KeptStudent) -> torch.Tensor:
    return torch.randn((5, *kept.shape.window), generator=torch.Generator().manual_seed(1))


def assert_equal_to_the_bit(one: KeptStudent, two: KeptStudent) -> None:
    mine, theirs = one.predictor(windows(one)), two.predictor(windows(one))
    for name in ("logits", "verb_logits", "noun_logits"):
        first, second = getattr(mine, name), getattr(theirs, name)
        assert (first is None) == (second is None)
        assert first is None or torch.equal(first, second)


def test_an_exported_student_gives_the_same_bits(trained, tmp_path):
    store, run = trained
    report = export_student(run, tmp_path / "out", license="cc-by-4.0")
    assert set(report.files) == {"README.md", "classes.json", "config.json", "model.safetensors"}
    own, handed = KeptStudent.load(run), KeptStudent.load(tmp_path / "out")
    assert_equal_to_the_bit(own, handed)
    for name in ("protocol", "taxonomy", "streams", "shape"):
        assert getattr(own, name) == getattr(handed, name)
    segments = store.labels("validation")
    found = TrainedStudent(store, tmp_path / "out").predict(segments, split="validation")
    expected = TrainedStudent(store, run).predict(segments, split="validation")
    np.testing.assert_array_equal(found.scores, expected.scores)
    export_student(tmp_path / "out", tmp_path / "again")
    assert_equal_to_the_bit(own, KeptStudent.load(tmp_path / "again"))


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "gru", "layers": 1, "heads": None},
        {"head": "avth", "precision": "bfloat16"},
        {"past_weight": 0.5, "feature_weight": 1.0},
    ],
)
def test_whatever_the_student_is(make_store, small, tmp_path, changes):
    train(make_store(), tmp_path / "run", small.replace(**changes))
    export_student(tmp_path / "run", tmp_path / "out")
    kept = KeptStudent.load(tmp_path / "run")
    assert_equal_to_the_bit(kept, KeptStudent.load(tmp_path / "out"))


def test_the_card_says_what_the_run_says(trained, tmp_path):
    _, run = trained
    done = invoke("student", "export", run, tmp_path / "out", "--license", "mit", "--json")
    assert done.exit_code == 0, done.output
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith('---\nlicense: "mit"\n')
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    assert f"| action/top5 | {metrics['action/top5']:.2f} |" in card
    kept = KeptStudent.load(run)
    assert kept.streams[0].fingerprint in card
    assert "1 s before the action" in card
    names = json.loads((tmp_path / "out/classes.json").read_text())
    assert names["actions"] == list(kept.taxonomy.actions)
    settings = (tmp_path / "out/config.json").read_text()
    assert str(tmp_path) not in settings + card
    assert json.loads(settings)["license"] == "mit"


def test_names_are_no_markup(trained, tmp_path):
    _, run = trained
    file = run / "config.json"
    account = json.loads(file.read_text())
    account["stream sources"] = ["<b>|[x](https://x) www.x.org\n# `y`"]
    file.write_text(json.dumps(account))
    export_student(run, tmp_path / "out", name="<i>*x*\n---")
    card = (tmp_path / "out/README.md").read_text()
    assert r"| rgb | &lt;b\>\|\[x\](https\://x) www\.x.org\\n\# \`y\` |" in card
    assert "\n# &lt;i\\>\\*x\\*\\\\n---\n" in card


def test_a_gpu_of_the_run_is_asked_of_nobody_else(trained, tmp_path):
    _, run = trained
    file = run / "config.json"
    account = json.loads(file.read_text())
    account["student"]["runtime"]["device"] = "cuda:7"
    file.write_text(json.dumps(account))
    export_student(run, tmp_path / "out")
    assert KeptStudent.load(tmp_path / "out").config.runtime.device == "auto"


def test_a_run_that_kept_no_classes_takes_those_of_a_store(trained, tmp_path):
    store, run = trained
    file = run / "config.json"
    account = json.loads(file.read_text())
    del account["classes"]
    file.write_text(json.dumps(account))
    refused = invoke("student", "export", run, tmp_path / "out")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "did not keep its classes" in refused.stderr
    done = invoke("student", "export", run, tmp_path / "out", "--store", store.path)
    assert done.exit_code == 0, done.output
    assert KeptStudent.load(tmp_path / "out").taxonomy == store.taxonomy


def test_what_is_refused(trained, tmp_path):
    _, run = trained
    out = tmp_path / "out"
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    with pytest.raises(AlreadyExists, match="something is already here"):
        export_student(run, tmp_path / "there")
    with pytest.raises(BadConfig, match=r"apache-2\.0.*found My own"):
        export_student(run, out, license="My own")
    with pytest.raises(BadConfig, match="tflite"):
        export_student(run, out, form="tflite")
    with pytest.raises(NotFound, match="no such folder"):
        export_student(tmp_path / "nothing" / "here", out)
    shutil.copytree(run, tmp_path / "begun")
    (tmp_path / "begun/result.json").unlink()
    with pytest.raises(NotFound, match="the run is not finished"):
        export_student(tmp_path / "begun", out)
    shutil.copytree(run, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare/checkpoint")
    with pytest.raises(NotFound, match="no checkpoint"):
        export_student(tmp_path / "bare", out)
    assert not out.exists()


def test_an_exported_folder_is_not_believed(trained, tmp_path):
    _, run = trained
    export_student(run, tmp_path / "out")
    file = tmp_path / "out/config.json"
    account = json.loads(file.read_text())
    wide = {**account["student"], "model": {**account["student"]["model"], "width": 1 << 15}}
    file.write_text(json.dumps({**account, "student": wide}))
    with pytest.raises(BadCheckpoint, match="of another shape"):  # before 100 GB are asked for
        KeptStudent.load(tmp_path / "out")
    classes = {**account["classes"], "dataset": "another"}
    file.write_text(json.dumps({**account, "classes": classes}))
    with pytest.raises((BadCheckpoint, FingerprintMismatch), match=r"classes|taxonomy"):
        KeptStudent.load(tmp_path / "out")
    file.write_text(json.dumps(account))
    weights: Path = tmp_path / "out/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BadCheckpoint, match="can't be read"):
        KeptStudent.load(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: tensor.double(), "of another type: .*expected float32, found float64"),
        (lambda tensor: tensor.long(), "of another type: .*expected float32, found int64"),
        (lambda tensor: tensor * torch.nan, "weights that are not finite"),
        (lambda tensor: tensor + torch.inf, "weights that are not finite"),
    ],
)
@pytest.mark.parametrize("place", ["out/model.safetensors", "run/checkpoints"])
def test_weights_that_make_no_sense(trained, tmp_path, place, change, words):
    """Of an exported folder and of a run: whatever loads one refuses, and nothing is handed on."""
    _, run = trained
    export_student(run, tmp_path / "out")
    files = [tmp_path / place] if place.startswith("out") else [*run.rglob("average.safetensors")]
    (file,) = files
    tensors = read_tensors(file, framework="pt").tensors
    last = max(tensors)
    file.unlink()
    write_tensors(file, {**tensors, last: change(tensors[last])})
    folder = tmp_path / place.partition("/")[0]
    with pytest.raises(BadCheckpoint, match=words):
        KeptStudent.load(folder)
    with pytest.raises(BadCheckpoint, match=words):
        export_student(folder, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("head", ["avth", "rulstm", "mean", "probe"])
def test_every_other_head_is_a_graph(tmp_path, head):
    """Of any number of windows; the probe's of rows of tokens."""
    sizes = {"layers": 1, "heads": 2, "width": 8}
    given = {name: sizes[name] for name in sizes_of(HEADS[head]) if name in sizes}
    shape = ModelShape(dims=(8,), num_classes=5, num_frames=3, tokens=4 if head == "probe" else 1)
    student = build_student(StudentConfig.of(head=head, **given), shape)
    assert write_portable("torch-export", tmp_path, student, shape) < 1e-6


@pytest.mark.parametrize(("form", "head"), [("torch-export", "gru"), ("onnx", "light")])
def test_graphs_give_the_same_scores(make_store, small, tmp_path, form, head):
    """In one file each, with batches of any size."""
    pytest.importorskip("onnxruntime")
    config = small.replace(head=head, verb_noun_weight=0.5, logit_adjustment=0.5, epochs=1)
    train(make_store(), tmp_path / "run", config.replace(heads=None) if head == "gru" else config)
    report = export_student(tmp_path / "run", tmp_path / "out", form=form)
    assert report.differences[form] < 1e-5
    kept = KeptStudent.load(tmp_path / "out")
    features = windows(kept)[:4]
    expected = kept.predictor(features)
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(tmp_path / "out/model.onnx"))
        logits, verbs, _ = session.run(
            ["logits", "verb_logits", "noun_logits"], {"features": features.numpy()}
        )
    else:
        program = torch.export.load(tmp_path / "out/model.pt2")
        logits, verbs, _ = (each.detach().numpy() for each in program.module()(features))
    np.testing.assert_allclose(logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(verbs, expected.verb_logits, atol=1e-5)


def test_a_head_that_is_no_graph_is_refused(trained, tmp_path, monkeypatch):
    """One whose way depends on its values."""
    from antcache.student.heads.light import LightHead

    _, run = trained
    forward = LightHead.forward

    def choosing(self, features, **asked):
        return forward(self, features if features.sum() > 0 else -features, **asked)

    monkeypatch.setattr(LightHead, "forward", choosing)
    with pytest.raises(BadConfig, match="LightHead: this head can't be exported as torch-export"):
        export_student(run, tmp_path / "out", form="torch-export")
    assert not (tmp_path / "out").exists()


def test_a_graph_with_other_scores_is_refused(trained, tmp_path, monkeypatch):
    from antcache.student.handing import portable

    _, run = trained
    load = portable._load_program
    monkeypatch.setattr(
        portable,
        "_load_program",
        lambda path: lambda x: tuple(each + 0.01 for each in load(path)(x)),
    )
    with pytest.raises(BadCheckpoint, match="other scores than the student"):
        export_student(run, tmp_path / "out", form="torch-export")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("why", ["raise ImportError('x')", "raise OSError('libx.so: gone')"])
def test_a_package_that_is_not_there_takes_one_line(trained, tmp_path, monkeypatch, why):
    """Before the student is looked for."""
    (tmp_path / "path/onnxruntime").mkdir(parents=True)
    (tmp_path / "path/onnxruntime/__init__.py").write_text(why)
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    for place in (trained[1], tmp_path / "nothing"):
        done = invoke("student", "export", place, tmp_path / "out", "--format", "onnx")
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        assert "'antcache[onnx]'" in done.stderr
    assert not (tmp_path / "out").exists()
