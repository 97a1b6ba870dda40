"""Where a student that was handed on lies: the folder of a run, an exported one, or a hub id.

    model.safetensors    the weights that the run reports, all in one file
    config.json          settings, protocol, streams, shape and classes, as a run has them
    classes.json         names of the classes in the order of the scores
    README.md            the model card

Promise: of a hub id only these files are fetched, through huggingface_hub's cache, and no code and
no pickle. Nothing of them is believed here: whoever reads them checks.
"""

from __future__ import annotations

from pathlib import Path

from antcache.errors import AlreadyExists, NotFound, needs
from antcache.files import is_vacant
from antcache.hub import not_fetched, transport_errors

MODEL, CLASSES, CARD = "model.safetensors", "classes.json", "README.md"
EXAMPLE = "the folder of a run, an exported one, or a hub id such as OWNER/NAME"


def check_vacant(path: Path) -> None:
    """Refuse a folder to write where something is.

    Raises:
        AlreadyExists: something is there.
    """
    if not is_vacant(path):
        raise AlreadyExists("something is already here", where=path, hint="choose another folder")


def looks_local(name: str) -> bool:
    """Whether a name can only be a path: absolute, with a dot in front, or of several folders."""
    return Path(name).is_absolute() or name[:1] in (".", "~") or name.count("/") != 1


def find_student(place: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a student: `place` itself, or where the hub's files of that id were fetched to.

    Args:
        place: folder of a run or of an export, or a hub id; a folder that is there wins.
        revision: of the hub's, a branch, tag or commit; the default branch unless given.

    Raises:
        NotFound: there is neither such a folder nor such a student, or the hub can't be reached.
        MissingExtra: it is no folder here, and huggingface_hub is not installed.
    """
    folder, name = Path(place), str(place)
    if folder.is_dir():
        return folder
    if "://" in name:
        raise NotFound("a URL is no student's name", where=name, expected=EXAMPLE)
    if folder.exists() or looks_local(name):
        found = "a file" if folder.exists() else "nothing"
        raise NotFound("no run here", where=name, expected=EXAMPLE, found=found)
    with needs("huggingface_hub", "hub"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
        from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    disable_progress_bars()
    try:
        fetched = snapshot_download(
            name, revision=revision, allow_patterns=[MODEL, CLASSES, CARD, "config.json"]
        )
    except (OSError, HfHubHTTPError, HFValidationError, *transport_errors()) as error:
        raise NotFound(
            "neither a folder here nor a student that can be fetched from the hub",
            where=name,
            found=not_fetched(error),
            hint="check the name and the network, or give a local folder",
        ) from error
    finally:
        enable_progress_bars()
    if not (Path(fetched) / MODEL).is_file():
        raise NotFound(
            "no student in this repository of the hub",
            where=name,
            expected=f"{MODEL}, as `antcache student push` writes it",
        )
    return Path(fetched)
