"""Labels of further kitchens, as one table of all segments: Breakfast, 50 Salads, CaptainCook4D.

Promise: splits are the published ones; what is background (`SIL`, `action_start`, `action_end`) is
no segment. Breakfast and 50 Salads are read from `segments.csv`, run lengths of the labels of their
frames; a name ends in the number of the split whose test videos are validated on (`breakfast-1`).
CaptainCook4D is validated on its validation and test recordings together.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from antcache.annotations import Segments, Taxonomy, read_annotations
from antcache.teacher.histories import Timeline

FRAME_RATES = {"breakfast": 15.0, "50salads": 30.0}
SPLITS = {"breakfast": 4, "50salads": 5}
BACKGROUND = ("SIL", "action_start", "action_end")
COOK = "captaincook4d"
BREAKFAST = tuple(f"breakfast-{n}" for n in range(1, SPLITS["breakfast"] + 1))
SALADS = tuple(f"50salads-{n}" for n in range(1, SPLITS["50salads"] + 1))


def other_timeline(dataset: str, data: Path) -> Timeline:
    """All segments of one of these datasets, of the splits `train` and `validation`."""
    if dataset == COOK:
        return _captaincook4d(data / COOK)
    name, _, number = dataset.rpartition("-")
    return _runs(name, int(number), data / name)


def _captaincook4d(folder: Path) -> Timeline:
    read = read_annotations(COOK, folder)
    held_out = [segments for split, segments in read.splits.items() if split != "train"]
    arrays = [segments.arrays() for segments in held_out]
    validation = Segments.of(**{n: np.concatenate([a[n] for a in arrays]) for n in arrays[0]})
    return Timeline.of({"train": read.splits["train"], "validation": validation}, read.taxonomy)


def _runs(name: str, number: int, folder: Path) -> Timeline:
    lines = [line.split() for line in (folder / "mapping.txt").read_text("utf-8").splitlines()]
    actions = tuple(
        line[1] for line in lines if line and line[1] not in (*BACKGROUND, "SOS", "EOS")
    )
    ids = {action: i for i, action in enumerate(actions)}
    with (folder / "segments.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in ids]
    rate = FRAME_RATES[name]
    none = np.full(len(rows), -1)
    whole = Segments.of(
        uid=[f"{i}" for i in range(len(rows))],
        video=[row["video"] for row in rows],
        start_s=np.array([int(row["start_frame"]) / rate for row in rows]),
        stop_s=np.array([int(row["stop_frame"]) / rate for row in rows]),
        verb=none,
        noun=none,
        action=np.array([ids[row["label"]] for row in rows]),
    )
    splits = {}
    for split, file in (("train", "train"), ("validation", "test")):
        bundle = (folder / f"splits/{file}.split{number}.bundle").read_text("utf-8")
        videos = [Path(line.strip()).stem for line in bundle.splitlines() if line.strip()]
        splits[split] = whole[np.flatnonzero(np.isin(whole.video, videos))]
    taxonomy = Taxonomy(
        dataset=name, verbs=(), nouns=(), actions=actions, action_verbs=(), action_nouns=()
    )
    return Timeline.of(splits, taxonomy)
