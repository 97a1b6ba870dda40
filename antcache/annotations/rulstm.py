"""The CSV form of RULSTM (fpv-iplab/rulstm): EPIC-KITCHENS-55, EPIC-KITCHENS-100 and EGTEA Gaze+.

Promise: segments keep their order and ids; frames, 1-based at 30 fps, become seconds. No header;
`uid, video, start, stop, verb, noun, action`, blanks and leading zeros allowed. An integer uid
loses its leading zeros, so that both forms of EPIC-KITCHENS-55 name a segment alike. Test files
stop after `stop`: their segments have no labels and are passed over, with a count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from antcache.annotations.classes import (
    names_from_actions,
    read_actions,
    read_paired_actions,
    with_names,
)
from antcache.annotations.dataset import Dataset, Part, assemble
from antcache.annotations.epic_kitchens import (
    ek55_names,
    ek55_taxonomy,
    ek100_names,
    ek100_taxonomy,
)
from antcache.annotations.files import is_integer, read_rows, require_files
from antcache.annotations.segments import Segments
from antcache.annotations.sizes import check_dataset
from antcache.annotations.taxonomy import Taxonomy
from antcache.checks import one_of
from antcache.timebase import frames_to_seconds

COLUMNS = ("uid", "video", "start", "stop", "verb", "noun", "action")
FILES = ("training.csv", "validation.csv", "actions.csv")
TEST_FILES = ("test_seen.csv", "test_unseen.csv", "test.csv", "test_timestamps.csv")
"""Lists of segments without labels: the last one is EPIC-KITCHENS-100's."""


def read_epic_kitchens_55(folder: Path) -> Dataset:
    """EPIC-KITCHENS-55; class files and many-shot lists are used where they lie beside it."""
    check_dataset(folder, "epic-kitchens-55")
    require_files(folder, FILES, hint="the official CSV is read as epic-kitchens-55-official")
    names = ek55_names(folder)
    actions = read_actions(folder / "actions.csv", names)
    taxonomy, warnings = ek55_taxonomy(folder, actions, names)
    return _read(folder, FILES, taxonomy, warnings)


def read_epic_kitchens_100(folder: Path) -> Dataset:
    """EPIC-KITCHENS-100; class files are used where they lie beside it."""
    check_dataset(folder, "epic-kitchens-100")
    require_files(folder, FILES, hint="the official CSVs are read as epic-kitchens-100-official")
    names = ek100_names(folder)
    taxonomy, warnings = ek100_taxonomy(folder, read_actions(folder / "actions.csv", names), names)
    return _read(folder, FILES, taxonomy, warnings)


def read_egtea(folder: Path, *, split_number: int = 1) -> Dataset:
    """EGTEA Gaze+, split 1, 2 or 3; the names of verbs and nouns come from those of actions."""
    one_of("EGTEA split", split_number, (1, 2, 3))
    files = (f"training{split_number}.csv", f"validation{split_number}.csv", "actions.csv")
    check_dataset(folder, "egtea")
    require_files(folder, files)
    actions = read_paired_actions(folder / "actions.csv")
    taxonomy = with_names("egtea", actions, names_from_actions(actions, "_"))
    return _read(folder, files, taxonomy, [])


def _read(folder: Path, files: Sequence[str], taxonomy: Taxonomy, warnings: list[str]) -> Dataset:
    """The splits of `files` (training, validation, actions)."""
    for path in (folder / name for name in TEST_FILES):
        if path.is_file():
            count = len(read_rows(path, COLUMNS[:4]))
            warnings.append(f"{path.name}: {count} segments without labels passed over")
    parts = {
        "train": _read_segments(folder / files[0]),
        "validation": _read_segments(folder / files[1]),
    }
    source = f"RULSTM CSV: {', '.join(files)}"
    return assemble(taxonomy, parts, source=source, warnings=warnings)


def _read_segments(path: Path) -> Part:
    rows = read_rows(path, COLUMNS)
    segments = Segments.of(
        uid=[str(int(uid)) if is_integer(uid) else uid for uid in rows.words("uid")],
        video=rows.words("video"),
        start_s=frames_to_seconds(rows.integers("start")),
        stop_s=frames_to_seconds(rows.integers("stop")),
        verb=rows.integers("verb"),
        noun=rows.integers("noun"),
        action=rows.integers("action"),
    )
    return Part(segments=segments, place=rows.place)
