"""A run's folder as its names tell it: whether a run may begin there, and with which settings.

    config.json                 settings, store and fingerprints
    metrics.jsonl               one line per epoch
    checkpoint/epoch-NNNN/      the newest state; see `checkpoint`
    tensorboard/                the same figures as events, if tensorboard is installed
    predictions.safetensors     scores of the validation windows by the weights that are reported
    held_out.safetensors        the same of the training windows held out, if there are any
    result.json                 final metrics and dropped segments; written last: it means done
    log.txt                     what the command logged

Promise: nothing is written here, and PyTorch is not loaded: a command looks before it waits.
"""

from __future__ import annotations

from pathlib import Path

from antcache.errors import AlreadyExists, BadCheckpoint, NotFound
from antcache.files import LOCK, found_at
from antcache.student.config import StudentConfig
from antcache.untrusted import read_json

CONFIG, METRICS, RESULT, LOG = "config.json", "metrics.jsonl", "result.json", "log.txt"
CHECKPOINTS, EVENTS = "checkpoint", "tensorboard"


def check_place(path: Path, *, resume: bool) -> None:
    """Raise unless a new run may begin in the folder `path`, or the one there may go on.

    Raises:
        AlreadyExists: something other than a log is there and `resume` is false.
        NotFound: `resume` is true and there is no run.
    """
    if resume and not (path / CONFIG).is_file():
        raise NotFound("no run to resume", where=path, hint="leave --resume out to start one")
    if not resume and found_at(path, (LOG, LOCK)):
        raise AlreadyExists(
            "something is already here",
            where=path,
            hint="choose another run, or go on with this one: --resume"
            if (path / CONFIG).is_file()
            else "choose another folder",
        )


def read_config(path: Path) -> StudentConfig:
    """Settings of the run in the folder `path`.

    Raises:
        NotFound: there is no run.
        BadCheckpoint: its `config.json` can't be read.
    """
    file = path / CONFIG
    if not file.is_file():
        raise NotFound("no run here", where=path, hint="antcache student train --run starts one")
    try:
        account = read_json(file)
        if "student" not in account:
            raise ValueError("no key student")
        return StudentConfig.from_dict(account["student"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint("the run's settings can't be read", where=file, found=error) from error
