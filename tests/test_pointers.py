"""What a clone without Git LFS leaves in place of files is called that, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from antcache.annotations import Taxonomy, read_annotations
from antcache.errors import AntcacheError
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.submission.segment_lists import read_uids, read_unlabeled
from antcache.hub import check_folder
from antcache.interop.array_files.config import ArraysImportConfig
from antcache.interop.array_files.reading import read_file
from antcache.interop.lmdb.pages import open_lmdb
from antcache.interop.predictions.files import open_predictions
from antcache.student.runs.checkpoint import _read_state, _read_tensors
from antcache.student.sweeps.plan import read_plan
from antcache.teacher.base import load_teacher
from antcache.teacher.corpus.reading import corpus_facts
from antcache.teacher.corpus.recipes import read_recipes
from antcache.tensors import read_tensors
from antcache.untrusted import check_fetched, read_json, read_text

POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:"
    + "4d7a2146" * 8
    + "\nsize 345678901\n"
)
WORDS = "a Git LFS pointer in place of the file, which git lfs pull fetches"
TAXONOMY = Taxonomy(
    dataset="toy",
    verbs=("take",),
    nouns=("pan",),
    actions=("take pan",),
    action_verbs=(0,),
    action_nouns=(0,),
)


def opened_lmdb(path: Path) -> None:
    with open_lmdb(path):
        pass


def decoded(path: Path) -> None:
    from antcache.extract.videos.boxes import check_samples

    check_samples(path)


def backbone(path: Path) -> None:
    from antcache.extract import load_backbone

    load_backbone(path.parent)


def rows(path: Path) -> None:
    read_file(path, ArraysImportConfig(dim=2, fps=1))


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a table": ("train.csv", lambda path: read_annotations("table", path)),
    "published annotations": (
        "actions.csv",
        lambda path: read_annotations("epic-kitchens-55", path.parent),
    ),
    "a list of segments": ("test.csv", read_unlabeled),
    "a list of uids": ("test.csv", read_uids),
    "an LMDB": ("data.mdb", lambda path: opened_lmdb(path.parent)),
    "an LMDB in a file": ("rgb.mdb", opened_lmdb),
    "a pickle": ("p.pkl", open_predictions),
    "a pickle of torch": ("p.pt", open_predictions),
    "an array": ("a.npy", rows),
    "an array of torch": ("a.pt", rows),
    "an array of MATLAB": ("a.mat", rows),
    "an npz": ("p.npz", open_predictions),
    "a parquet file": ("p.parquet", open_predictions),
    "predictions": ("predictions.safetensors", Predictions.load),
    "a video": ("P01.mp4", decoded),
    "the settings of a backbone": ("config.json", backbone),
    "a checkpoint": ("student.safetensors", _read_tensors),
    "the state of a run": ("state.json", lambda path: _read_state(path.parent)),
    "the settings of a teacher": (
        "teacher.json",
        lambda path: load_teacher(path.parent, TAXONOMY, device=torch.device("cpu")),
    ),
    "a plan": ("sweep.yaml", read_plan),
    "a corpus": ("corpus.json", lambda path: corpus_facts(path.parent)),
    "recipes": ("layer1.json", read_recipes),
}


@pytest.mark.parametrize("what", READERS)
def test_a_pointer_is_called_that(tmp_path: Path, what: str) -> None:
    """One line that names the file, and what to do."""
    name, read = READERS[what]
    for beside in ("training.csv", "validation.csv", "teacher.safetensors"):
        (tmp_path / beside).write_text("")
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(AntcacheError, match=WORDS) as error:
        read(tmp_path / name)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize("read", [read_text, read_json, read_tensors, check_fetched])
def test_the_mechanism(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "x"
    path.write_text(POINTER)
    with pytest.raises(ValueError, match=WORDS):
        read(path)


def test_a_file_that_speaks_of_lfs_is_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("# version https://git-lfs.github.com/spec/v1\n")
    check_fetched(tmp_path / "x")
    assert read_text(tmp_path / "x").startswith("# version")


def test_every_file_of_a_model_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    check_folder(tmp_path)
    for name in ("model-00002-of-00002.safetensors", "pytorch_model.bin", "spiece.model"):
        (tmp_path / name).write_text(POINTER)
        with pytest.raises(ValueError, match=f"{name} is {WORDS}"):
            check_folder(tmp_path)
        (tmp_path / name).unlink()
