"""CaptainCook4D's steps: recordings of recipes, each step with its times.

Promise: a step is a single label, called as `step_idx_description.csv` has it, with ids in the
order of its numbers. Steps that were left out of a recording (their times are -1) are no segments,
and are counted; so are those with an error, which are kept. Recordings that are in no split are
left out, with a note.

Files: `complete_step_annotations.json`, `step_idx_description.csv`, and a list of splits, such as
`recordings_data_split_normal.json` (no recording has errors) or `person_data_split_normal.json`.
Source: CaptainCook4D/annotations.
"""

from __future__ import annotations

from pathlib import Path

from antcache.annotations.dataset import Dataset, Part, assemble
from antcache.annotations.files import read_table, require_files
from antcache.annotations.forms.json_files import json_of, mapping, number, sequence, text, whole
from antcache.annotations.segments import Segments
from antcache.annotations.table_splits import KNOWN
from antcache.annotations.taxonomy import Taxonomy
from antcache.errors import BadAnnotations
from antcache.text import listed

STEPS, CLASSES = "complete_step_annotations.json", "step_idx_description.csv"
SPLITS = "recordings_data_split_normal.json"
LONGEST = 1000
"""Characters of a step, which is called by a whole sentence: the longest published one has 292."""
LEFT_OUT_S = -1.0
"""Start and end of a step that was not done."""


def read_captaincook4d(folder: Path, *, split_list: str = SPLITS) -> Dataset:
    """Steps of the recordings of a list of splits, `train`, `validation` and `test`.

    Args:
        folder: where the files lie.
        split_list: name of the file with the splits.

    Raises:
        NotFound: a file is missing.
        BadAnnotations: a file does not say what it should.
    """
    require_files(folder, (STEPS, CLASSES, split_list))
    ids, names = _classes(folder / CLASSES)
    recordings = mapping(json_of(folder / STEPS), str(folder / STEPS))
    homes = _homes(folder / split_list, set(recordings))
    parts, left_out, mistaken = {}, 0, 0
    for split, videos in homes.items():
        columns: list[tuple[str, str, float, float, int]] = []
        places = []
        for video in videos:
            where = f"{folder / STEPS}: {video}"
            steps = sequence(mapping(recordings[video], where).get("steps"), f"{where}, steps")
            for i, step in enumerate(steps):
                place = f"{where}, step {i}"
                start, stop = number(step, "start_time", place), number(step, "end_time", place)
                if start == stop == LEFT_OUT_S:
                    left_out += 1
                    continue
                mistaken += bool(step.get("has_errors"))
                step_id = whole(step, "step_id", place)
                if step_id not in ids:
                    raise BadAnnotations(
                        "unknown step", where=place, expected=f"one of {CLASSES}", found=step_id
                    )
                columns.append((f"{video}-{i}", video, start, stop, ids[step_id]))
                places.append(place)
        if not columns:
            raise BadAnnotations("a split without a step", where=folder / split_list, found=split)
        uid, video_of, start_s, stop_s, action = zip(*columns, strict=True)
        none = [-1] * len(columns)
        segments = Segments.of(
            uid=uid,
            video=video_of,
            start_s=start_s,
            stop_s=stop_s,
            verb=none,
            noun=none,
            action=action,
        )
        parts[split] = Part(segments=segments, place=places.__getitem__)
    absent = sorted(set(recordings) - {video for own in homes.values() for video in own})
    warnings = [
        said
        for count, said in (
            (left_out, f"steps that were left out of a recording, and are no segments: {left_out}"),
            (mistaken, f"steps that were done with an error, and are kept: {mistaken}"),
            (
                len(absent),
                f"recordings that are in no split of {split_list}, and left out ({len(absent)}): "
                f"{listed(absent)}",
            ),
        )
        if count
    ]
    taxonomy = Taxonomy(
        dataset="captaincook4d",
        verbs=(),
        nouns=(),
        actions=names,
        action_verbs=(),
        action_nouns=(),
    )
    return assemble(taxonomy, parts, source=f"{STEPS}, {split_list}", warnings=warnings)


def _classes(path: Path) -> tuple[dict[int, int], tuple[str, ...]]:
    """Our id of each published one, and the names; the published ids have gaps."""
    rows = read_table(path, ("step_idx", "step_description"))
    names = rows.convert("step_description", _words, f"a text of at most {LONGEST} characters")
    numbers = rows.integers("step_idx").tolist()
    places: dict[int, int] = {}
    for row, given in enumerate(numbers):
        if given in places:
            raise BadAnnotations("a step is listed twice", where=rows.place(row), found=given)
        places[given] = row
    order = sorted(places)
    return {given: i for i, given in enumerate(order)}, tuple(names[places[k]] for k in order)


def _words(cell: str) -> str:
    if not 0 < len(cell) <= LONGEST:
        raise ValueError
    return cell


def _homes(path: Path, there: set[str]) -> dict[str, list[str]]:
    """Recordings of each split."""
    homes: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for split, videos in mapping(json_of(path), str(path)).items():
        where = f"{path}: {split}"
        own = homes.setdefault(KNOWN.get(split.lower(), split), [])
        for i in range(len(sequence(videos, where))):
            video = text({"recording": videos[i]}, "recording", f"{where}, {i}")
            if video not in there:
                raise BadAnnotations(
                    "a recording without steps",
                    where=where,
                    expected=f"one of {STEPS}",
                    found=video,
                )
            if video in owner:
                raise BadAnnotations(f"{video} is in {owner[video]} as well", where=where)
            owner[video] = split
            own.append(video)
    return homes
