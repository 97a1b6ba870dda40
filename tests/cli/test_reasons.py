"""Why a file or a model can't be had, in words that say it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from antcache.cli.main import cli
from antcache.errors import AntcacheError
from antcache.extract import load_backbone
from antcache.teacher.language.checkpoint import fetch

NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user without rights, where we are root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture
def shared(labelled: Path) -> Iterator[Path]:
    """A copy of the labelled folder that everybody may enter, with the predictions `p`."""
    folder = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(labelled, folder / "kitchen")
        store = folder / "kitchen/store"
        made = run("fuse", store, "targets/x", "targets/x", "-o", folder / "kitchen/p")
        assert made.exit_code == 0, made.output
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        yield folder / "kitchen"
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("line", "shut"),
    [
        ("evaluate store p", "p"),
        ("fuse store p p -o q", "p"),
        ("compare store p p", "p"),
        ("submit store p --challenge ek55 -o q", "p"),
        ("import predictions store p --name y", "p"),
        ("annotations summary table table", "table"),
        ("annotations summary table table", "table/train.csv"),
        (
            "teacher predict store store.teachers/x --name y --overwrite",
            "store.teachers/x/teacher.safetensors",
        ),
        ("student sweep store p --runs runs", "p"),
        ("store info store", "store"),
    ],
)
def test_what_may_not_be_read_is_called_that(
    shared: Path, monkeypatch: pytest.MonkeyPatch, line: str, shut: str
) -> None:
    monkeypatch.chdir(shared)
    CliRunner().invoke(cli, line.split())  # so that what is imported where it is needed is here
    shutil.rmtree(shared / "runs", ignore_errors=True)
    (shared / "q").unlink(missing_ok=True)
    (shared / shut).chmod(0)
    with as_nobody():
        refused = CliRunner().invoke(cli, line.split())
    (shared / shut).chmod(0o755)
    assert refused.exit_code == 2, refused.output
    assert "Permission denied" in refused.stderr
    assert shut in refused.stderr
    assert "o such file" not in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("get", [load_backbone, fetch])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("RepositoryNotFoundError", "found no public model of this name"),
        ("GatedRepoError", "found a model whose licence has to be accepted on its page first"),
        ("RevisionNotFoundError", "found no such revision of the model"),
        ("LocalEntryNotFoundError", "found no answer of the hub, and no copy in its cache"),
        ("OfflineModeIsEnabled", "found no answer of the hub, and no copy in its cache"),
        ("HFValidationError", "found no hub id, which reads OWNER/NAME"),
    ],
)
def test_what_the_hub_refuses_is_a_plain_sentence(
    monkeypatch: pytest.MonkeyPatch, get: object, kind: str, said: str
) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def refuse(*_: object, **__: object) -> None:
        error = getattr(errors, kind)
        raise error.__new__(error, "401 Client Error. (Request ID: Root=1-abc)\n\nRepository Not")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    assert callable(get)
    with pytest.raises(AntcacheError, match=f"somebody/model: neither a folder.*: {said} ") as told:
        get("somebody/model")
    assert "\n" not in str(told.value)
    assert "Request ID" not in str(told.value)


@pytest.mark.parametrize("get", [load_backbone, fetch])
@pytest.mark.parametrize("url", ["https://huggingface.co/facebook/dinov2-base", "hf://a/b"])
def test_a_url_is_no_hub_id(get: object, url: str) -> None:
    assert callable(get)
    with pytest.raises(
        AntcacheError, match=f"{url}: a URL is no model's name: expected (a|the) folder"
    ):
        get(url)


def test_a_preset_of_few_epochs_names_the_warm_up(labelled: Path, tmp_path: Path) -> None:
    words = ("student", "train", labelled / "store", "--run", tmp_path / "run")
    refused = run(*words, "--preset", "ek55-tsn", "--epochs", 3)
    assert refused.exit_code == 2
    assert "the warm-up is longer than the training" in refused.stderr
    assert "--warmup-epochs" in refused.stderr
    assert refused.stderr.count("\n") == 1
    words = (*words, "--preset", "ek55-tsn", "--epochs", 3, "--warmup-epochs", 1)
    assert "warm-up" not in run(*words).stderr
