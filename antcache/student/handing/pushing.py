"""A student onto a hub: the folder that `exporting` writes, as a model repository, in one commit.

Promise: what is pushed is what `export` would write, so that `KeptStudent.load` of the hub's id
gives the run's scores to the bit. What the repository had stays in its history.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from antcache.annotations import Taxonomy
from antcache.errors import needs
from antcache.hub import talking
from antcache.student.handing.card import UNKNOWN
from antcache.student.handing.exporting import export_student


@dataclass(frozen=True, kw_only=True)
class StudentPushReport:
    """What was pushed: the hub id, the commit, files with their sizes, and parameters."""

    repo: str
    commit: str
    files: dict[str, int]
    num_parameters: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def push_student(
    place: str | Path,
    repo: str,
    *,
    license: str = UNKNOWN,
    form: str = "safetensors",
    private: bool = False,
    taxonomy: Taxonomy | None = None,
) -> StudentPushReport:
    """Push the student of a run.

    Args:
        place: a finished run, or an exported folder.
        repo: hub id; made if there is none.
        license: see `export_student`, as for `form` and `taxonomy`.
        form: of the weights.
        private: of a repository that is made here: nobody else may see it.
        taxonomy: its classes.

    Raises:
        Unreachable: the hub does not answer, or refuses.
        BadConfig: the name is no hub id; see also `export_student`.
        NotFound, BadCheckpoint, MissingExtra: see `export_student`.
    """
    with needs("huggingface_hub", "hub"):
        from huggingface_hub import HfApi
    api = HfApi()
    with tempfile.TemporaryDirectory(prefix="antcache-push-") as folder:
        out = Path(folder) / "student"
        name = repo.rpartition("/")[2]
        report = export_student(
            place, out, license=license, form=form, name=name, taxonomy=taxonomy
        )
        with talking(repo):
            api.create_repo(repo, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo, folder_path=out, commit_message="Add a student of antcache"
            )
    return StudentPushReport(
        repo=repo,
        commit=str(done.oid),
        files=dict(report.files),
        num_parameters=report.num_parameters,
    )
