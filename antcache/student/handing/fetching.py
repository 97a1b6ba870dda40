"""Where a student that was handed on lies: the folder of a run, an exported one, or a hub id.

    model.safetensors    the weights that the run reports, all in one file
    config.json          settings, protocol, streams, shape and classes, as a run has them
    classes.json         names of the classes in the order of the scores
    README.md            the model card

Promise: of a hub id only these files are fetched, through huggingface_hub's cache, and no code and
no pickle; the weights are those whose hash the hub names. Nothing else of them is believed here:
whoever reads them checks.
"""

from __future__ import annotations

from pathlib import Path

from antcache.errors import AlreadyExists, BadCheckpoint, NotFound
from antcache.files import is_vacant
from antcache.hub import find_folder, is_as_named

MODEL, CLASSES, CARD = "model.safetensors", "classes.json", "README.md"
EXAMPLE = "the folder of a run, an exported one, or a hub id such as OWNER/NAME"


def check_vacant(path: Path) -> None:
    """Refuse a folder to write where something is.

    Raises:
        AlreadyExists: something is there.
    """
    if not is_vacant(path):
        raise AlreadyExists("something is already here", where=path, hint="choose another folder")


def find_student(place: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a student: `place` itself, or where the hub's files of that id were fetched to.

    Args:
        place: folder of a run or of an export, or a hub id; a folder that is there wins.
        revision: of the hub's, a branch, tag or commit; the default branch unless given.

    Raises:
        NotFound: there is neither such a folder nor such a student, or the hub can't be reached.
        BadCheckpoint: the weights are other bytes than the hub says.
        MissingExtra: it is no folder here, and huggingface_hub is not installed.
    """
    files = (MODEL, CLASSES, CARD, "config.json")
    folder = find_folder(
        str(place), files, kind=NotFound, expected=EXAMPLE, what="student", revision=revision
    )
    if folder != Path(place) and not (folder / MODEL).is_file():
        raise NotFound(
            "no student in this repository of the hub",
            where=place,
            expected=f"{MODEL}, as `antcache student push` writes it",
        )
    if folder != Path(place) and not is_as_named(folder / MODEL):
        raise BadCheckpoint(
            "other weights came than the hub lists",
            where=(folder / MODEL).resolve(),
            hint="remove this file: it is fetched again",
        )
    return folder
