"""Options that several commands have: the same name, words and type wherever they stand.

Promise: what means the same is one option of this file. Values of a fixed set are in `choices`, the
ranges of numbers in `numbers`; what every command has is in `command`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from antcache.annotations.protocols import WindowConfig
from antcache.cli.choices import (
    BACKENDS,
    CLASSES,
    CLUSTERS,
    DTYPES,
    ENGINES,
    MIXTURES,
    STUDENT_FORMS,
    TOKEN_DTYPES,
)
from antcache.cli.common import PATH, StoreLocation
from antcache.cli.numbers import (
    AMOUNT,
    ANCHOR,
    COUNT,
    EVERY,
    FPS,
    GAP,
    GRID,
    POSITIVE,
    SEED,
    Several,
)
from antcache.errors import BadConfig
from antcache.settings import settings_of

Decorator = Callable[[Any], Any]


def repeatable(*names: str, text: str, shown: str | None = None) -> Decorator:
    """An option that may be given again, and takes several names with commas as well."""
    several = Several(click.STRING)
    return click.option(
        *names,
        multiple=True,
        type=several,
        callback=several.together,
        metavar="NAME,...",
        show_default=shown,
        help=f"{text}; repeatable, or with commas.",
    )


def output_option(text: str, *, default: Path | None = None, shown: str | None = None) -> Decorator:
    """Where the command writes; required, unless there is a default, or words for one."""
    about: dict[str, Any] = {"type": PATH, "help": text}
    if default is not None:
        about |= {"default": default, "show_default": True}
    elif shown is not None:
        about |= {"show_default": shown}
    else:
        about |= {"required": True}  # and no default: None would be one
    return click.option("-o", "--output", **about)


def split_option(default: str | None = None, *, shown: str | None = None) -> Decorator:
    """Which labelled segments, with the default or words for it."""
    return click.option(
        "--split",
        metavar="NAME",
        default=default,
        show_default=shown or default is not None,
        help="Split of the labels.",
    )


def backbone_option(shown: str | None = None) -> Decorator:
    """What makes features of videos; required unless there are words for a default."""
    about: dict[str, Any] = {"required": True} if shown is None else {"show_default": shown}
    return click.option(
        "--backbone",
        help="Hub id or local folder of a vision model, or package.module:factory for one's own.",
        **about,
    )


def bootstrap_option(default: int) -> Decorator:
    """How often segments are resampled for an interval."""
    return click.option(
        "--bootstrap",
        type=AMOUNT,
        metavar="N",
        default=default,
        help="Resamples for 95 % intervals; 0: none.",
    )


def segments_option(*, shown: str | None = None) -> Decorator:
    """A list of segments without labels."""
    return click.option(
        "--segments",
        type=PATH,
        metavar="FILE",
        show_default=shown,
        help="List of segments: test_seen.csv, or an own table (uid,video,start,stop).",
    )


def targets_option(shown: str | None = None) -> Decorator:
    """Soft targets by name, of which none are taken unless there are words for a default."""
    return repeatable("--targets", text="Soft targets", shown=shown)


def dtype_option(
    default: str | None = None, *, shown: str | None = None, tokens: bool = False
) -> Decorator:
    """How features lie in the store; `tokens` where they may be tokens."""
    return click.option(
        "--dtype",
        type=TOKEN_DTYPES if tokens else DTYPES,
        default=default,
        show_default=shown or default is not None,
        help="Type that features are stored as" + ("; int8: of tokens." if tokens else "."),
    )


def engine_options(command: Any) -> Any:
    """Where the work runs: `engine`, and `address` of a cluster."""
    for option in (
        click.option(
            "--address",
            metavar="auto|HOST:PORT",
            show_default="as Ray finds it",
            help="With --engine ray: the cluster.",
        ),
        click.option(
            "--engine",
            type=ENGINES,
            default="local",
            help="This process, or the machines of a Ray cluster.",
        ),
    ):
        command = option(command)
    return command


def only_with_ray(engine: str, **given: object) -> None:
    """Refuse options that another engine would ignore.

    Raises:
        BadConfig: names them.
    """
    names = [f"--{name}" for name, value in given.items() if value is not None]
    if engine != "ray" and names:
        raise BadConfig(f"{' and '.join(names)} only with --engine ray")


def tokens_option(text: str, *, shown: str | None = None) -> Decorator:
    """A grid of tokens."""
    return click.option("--tokens", type=GRID, metavar="TxHxW", show_default=shown, help=text)


def every_option(shown: str) -> Decorator:
    """Seconds between two times, with words for a default."""
    return click.option(
        "--every", type=EVERY, metavar="SECONDS", show_default=shown, help="Step between times."
    )


def seed_option(default: int | None = 0) -> Decorator:
    """What decides all chance; None where something else has the default, which is 0, too."""
    return click.option(
        "--seed",
        type=SEED,
        default=default,
        show_default=None if default is not None else "0",
        help="Decides all that is random.",
    )


allow_missing_option = click.option(
    "--allow-missing", is_flag=True, help="Leave segments out whose features are missing."
)
classes_option = click.option(
    "--classes",
    "scored_classes",
    type=CLASSES,
    default="all",
    help="Which can win; present: those that occur, and segments whose verb and noun have no "
    "training segment are left out, as in V-JEPA 2's figures.",
)
classes_store_option = click.option(
    "--store",
    type=StoreLocation(),
    metavar="STORE",
    show_default="as the run has them",
    help="Where the classes are, for a run from before runs kept them.",
)
student_form_option = click.option(
    "--format",
    "form",
    type=STUDENT_FORMS,
    default="safetensors",
    help="Weights alone, or a graph as well, whose scores are compared first.",
)
one_stream_option = click.option("--stream", required=True, help="The feature stream.")
private_option = click.option(
    "--private", is_flag=True, help="If the repository is new: nobody else may see it."
)
revision_option = click.option("--revision", help="Branch, tag or commit of a hub id.")
from_store_option = click.option(
    "--store",
    type=StoreLocation(),
    metavar="STORE",
    required=True,
    help="Whose classes and features it is for.",
)
license_option = click.option(
    "--license",
    "license_",
    metavar="NAME",
    default="unknown",
    help="Licence of the weights, for the model card: apache-2.0, cc-by-nc-4.0, ...",
)
allow_partial_option = click.option(
    "--allow-partial", is_flag=True, help="Keep what there is of truncated videos."
)
cluster_option = click.option(
    "--cluster", type=CLUSTERS, default="video", help="What is resampled whole."
)
device_option = click.option(
    "--device",
    metavar="NAME",
    default="auto",
    help="cpu, cuda, cuda:1, ...; auto: a GPU if there is one.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be done; write nothing."
)
format_option = click.option(
    "--format",
    "backend",
    type=BACKENDS,
    show_default="hdf5 if its name ends in .h5, else zarr",
    help="Of a new store.",
)
key_fps_option = click.option(
    "--fps-of-keys", "key_fps", type=FPS, default=30.0, help="Frames per second of keys."
)
max_gap_option = click.option(
    "--max-gap",
    "max_gap_s",
    type=POSITIVE,
    default=2.0,
    help="Longest gap in a video, in seconds.",
)
name_option = click.option("--name", required=True, help="Name of the soft targets in the store.")
listener_option = click.option(
    "--teacher",
    type=PATH,
    metavar="FOLDER",
    help="Folder that antcache teacher listen wrote: a teacher that hears what is recognised, "
    "and counts beside the student.",
)
mixture_option = click.option(
    "--mixture", type=MIXTURES, default="probabilities", help="What is mixed."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is there.")
streams_option = repeatable("--stream", "streams", text="Feature streams", shown="all")
student_option = click.option(
    "--student",
    type=PATH,
    required=True,
    metavar="RUN",
    help="Folder of a run of antcache student train.",
)
scripts_option = click.option(
    "--scripts", type=PATH, help="Text file of scripts to train on as well."
)
table_fps_option = click.option(
    "--fps", type=FPS, help="Own tables: times are frames at this rate; labels of frames: theirs."
)
videos_option = click.option(
    "--videos",
    type=StoreLocation(),
    metavar="DIR",
    show_default="no pictures",
    help="Folder of the videos, for their pictures.",
)
top_option = click.option("--top", type=COUNT, default=5, help="How many actions are said.")
top_k_option = click.option(
    "--top-k", type=COUNT, metavar="K", help="Keep the K best classes only."
)
train_split_option = click.option(
    "--train-split", metavar="NAME", default="train", help="Split that is trained on."
)

gap_option = click.option(
    "--gap",
    "gap_s",
    type=GAP,
    show_default="the dataset's",
    help="Seconds between what is seen and the action.",
)

anchor_option = click.option(
    "--anchor",
    type=ANCHOR,
    show_default=False,
    help=settings_of(WindowConfig)["anchor"].text,
)
