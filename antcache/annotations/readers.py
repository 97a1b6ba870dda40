"""The published forms by name, and the one function that reads any of them.

Promise: `read_annotations` returns checked annotations or raises one error that names the file and
line; it writes nothing. A form is added by writing its reader and a line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antcache.annotations.dataset import Dataset
from antcache.annotations.forms.assembly101 import read_assembly101, read_assembly101_coarse
from antcache.annotations.forms.captaincook4d import read_captaincook4d
from antcache.annotations.forms.ego4d import read_ego4d_lta
from antcache.annotations.forms.egtea import read_egtea_original
from antcache.annotations.forms.frames import read_frames
from antcache.annotations.official import (
    read_epic_kitchens_55_official,
    read_epic_kitchens_100_official,
)
from antcache.annotations.rulstm import read_egtea, read_epic_kitchens_55, read_epic_kitchens_100
from antcache.annotations.table import read_own_table
from antcache.checks import one_of
from antcache.errors import BadConfig


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How a form is read.

    Attributes:
        read: takes the folder and the options, returns the dataset.
        about: what the form is, in a line.
        options: names of the keyword options that `read` takes.
    """

    read: Callable[..., Dataset]
    about: str
    options: tuple[str, ...] = ()


READERS = {
    "epic-kitchens-55": Reader(read=read_epic_kitchens_55, about="EPIC-KITCHENS-55, RULSTM's CSVs"),
    "epic-kitchens-55-official": Reader(
        read=read_epic_kitchens_55_official, about="EPIC-KITCHENS-55, the official CSV"
    ),
    "epic-kitchens-100": Reader(
        read=read_epic_kitchens_100, about="EPIC-KITCHENS-100, RULSTM's CSVs"
    ),
    "epic-kitchens-100-official": Reader(
        read=read_epic_kitchens_100_official, about="EPIC-KITCHENS-100, the official CSVs"
    ),
    "egtea": Reader(read=read_egtea, about="EGTEA Gaze+, RULSTM's CSVs", options=("split_number",)),
    "egtea-original": Reader(
        read=read_egtea_original,
        about="EGTEA Gaze+, the original lists (milliseconds)",
        options=("split_number",),
    ),
    "ego4d-lta": Reader(read=read_ego4d_lta, about="Ego4D, long-term anticipation"),
    "assembly101": Reader(
        read=read_assembly101, about="Assembly101, fine-grained actions", options=("view",)
    ),
    "assembly101-coarse": Reader(read=read_assembly101_coarse, about="Assembly101, coarse actions"),
    "captaincook4d": Reader(
        read=read_captaincook4d, about="CaptainCook4D, the steps", options=("split_list",)
    ),
    "frames": Reader(
        read=read_frames,
        about="50 Salads, Breakfast, GTEA and others, a label a frame as with MS-TCN",
        options=("background", "fps", "name", "split_by_video", "split_number"),
    ),
    "table": Reader(
        read=read_own_table,
        about="own CSVs with a header",
        options=("fps", "name", "split_by_video"),
    ),
}
"""Every form that can be read."""


def read_annotations(set_name: str, folder: str | Path, **options: Any) -> Dataset:
    """Read the annotations in `folder`.

    Args:
        set_name: a key of `READERS`.
        folder: where the files lie.
        options: of the reader; None, or no value of several, stands for its default.

    Raises:
        BadConfig: an unknown set, or an option that the set does not take.
        NotFound: the folder or its files are missing.
        BadAnnotations: a file does not say what its form promises.
    """
    one_of("set", set_name, READERS)
    reader = READERS[set_name]
    given = {key: value for key, value in options.items() if value not in (None, ())}
    for key in given:
        if key not in reader.options:
            raise BadConfig(
                f"{set_name} takes no {key.replace('_', ' ')}",
                expected=", ".join(reader.options) or "no options",
            )
    return reader.read(Path(folder), **given)
