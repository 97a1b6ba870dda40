"""What earlier versions wrote is read as it was written: stores, runs, teachers.

How the files were made is in `make.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import BadCheckpoint
from antcache.store import Store
from antcache.store.format import checksums
from antcache.store.integrity.verify import verify
from antcache.student.runs.place import read_config
from antcache.student.runs.predicting import TrainedStudent
from antcache.student.runs.train import train
from antcache.teacher.base import load_teacher
from antcache.teacher.histories import Timeline

GOLDEN = Path(__file__).parent / "format-1"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text("utf-8"))


@pytest.fixture(params=["zarr", "hdf5"])
def path(request: pytest.FixtureRequest) -> Path:
    return GOLDEN / request.param


@pytest.mark.parametrize("memory_map", [True, False])
def test_a_store_is_read_as_it_was_written(path: Path, memory_map: bool) -> None:
    store = Store.open(path, memory_map=memory_map)
    assert store.kind == path.name
    assert (store.splits(), store.streams()) == (["train", "validation"], ["flow", "rgb"])
    assert store.target_names() == ["dense", "sparse"]
    assert store.taxonomy.nouns == ("pan", "cup", "jalapeño")
    assert store.stream("flow").max_age_s == 2.0
    assert store.stream("rgb").config["crop"] == {"centre": True}
    found = {f"labels/{split}": store.labels(split).arrays() for split in store.splits()}
    found |= {f"targets/{name}": store.targets(name).arrays() for name in store.target_names()}
    for stream in store.streams():
        for video in store.videos(stream):
            features = store.features(stream, video)
            arrays = {"rows": features.read()}
            if features.times is not None:
                arrays["times"] = features.times
            found[f"features/{stream}/{video}"] = arrays
    assert found.keys() == EXPECTED["units"].keys()
    for key, arrays in found.items():
        assert checksums(arrays) == EXPECTED["units"][key]["checksums"], key
        assert store.backend.open(key)[1] == EXPECTED["units"][key]


def test_a_store_is_intact(path: Path) -> None:
    report = verify(Store.open(path))
    assert report.intact
    assert (report.units, report.groups) == (16, 6)


@pytest.mark.parametrize("head", EXPECTED["runs"])
def test_a_run_predicts_and_scores_as_it_did(path: Path, head: str) -> None:
    run, expected = GOLDEN / "runs" / head, EXPECTED["runs"][head]
    store = Store.open(path)
    student = TrainedStudent(store, run)
    found = student.predict(store.labels("validation"), split="validation")
    np.testing.assert_allclose(found.scores[:3], expected["scores"], atol=1e-5)
    result = CliRunner().invoke(cli, ["evaluate", str(path), str(run), "--json"])
    assert result.exit_code == 0, result.output
    (said,) = json.loads(result.stdout)
    known = {name: said["scored"][name] for name in said["scored"] if name in expected["metrics"]}
    wanted = {name: expected["metrics"][name] for name in known}
    assert known == pytest.approx(wanted, abs=1e-9)
    assert {"action/top5", "verb/top1", "noun/recall@5"} <= wanted.keys()


@pytest.mark.parametrize("head", EXPECTED["runs"])
def test_a_run_goes_on(path: Path, tmp_path: Path, head: str) -> None:
    """Finished it is only read; of one that was to have a second epoch, that epoch is trained."""
    run, checkpoint = tmp_path / "run", Path("checkpoint", "epoch-0001", "state.json")
    shutil.copytree(GOLDEN / "runs" / head, run)
    store = Store.open(path)
    config = read_config(run)
    assert config.model.head == head
    done = train(store, run, config, resume=True)
    assert (done.resumed_epoch, done.epoch) == (1, 1)
    for file, about in (("config.json", "student"), (checkpoint, "identity")):
        written = json.loads((run / file).read_text("utf-8"))
        written[about]["epochs"] = 2
        (run / file).chmod(0o644)
        (run / file).write_text(json.dumps(written), "utf-8")
    assert (read_config(run), config) == (config.replace(epochs=2), config)
    result = train(store, run, read_config(run), resume=True)
    assert (result.resumed_epoch, result.epoch) == (1, 2)
    assert train(store, run, read_config(run), resume=True).resumed_epoch == 2
    with pytest.raises(BadCheckpoint, match="lr: "):
        train(store, run, config.replace(epochs=2, lr=1.0), resume=True)


@pytest.mark.parametrize("kind", EXPECTED["teachers"])
def test_a_teacher_says_what_it_said(path: Path, kind: str) -> None:
    store = Store.open(path)
    teacher, history = load_teacher(GOLDEN / "teachers" / kind, store.taxonomy)
    examples = Timeline.of_store(store).examples(history, teacher.config.length)
    found = teacher.predict(examples).logits[:5]
    np.testing.assert_allclose(found, EXPECTED["teachers"][kind]["logits"], atol=1e-5)
