"""MS-TCN's form, in which 50 Salads, Breakfast and GTEA are spread: one label a frame.

Promise: a segment is a run of frames with one label; line n (from 0) is the frame at n / fps
seconds. Classes are those of `mapping.txt`, in the order of its ids, without those that say that
nothing is done (the background): their frames are in no segment, and a note counts them. Every
video is in one split: all published splits are there as their test videos (`test1`, `test2`, ...),
or one of them as `train` and `validation`.

Files: `groundTruth/VIDEO.txt` (a label a line), `mapping.txt` (`id label`), and if there are any
`splits/train.splitN.bundle` with `splits/test.splitN.bundle` (names of files a line).
Source: yabufarha/ms-tcn (its `data.zip`, `batch_gen.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from antcache.annotations.dataset import Dataset, Part, assemble
from antcache.annotations.files import SHOWN, is_integer, read_lines, require_files
from antcache.annotations.segments import Segments
from antcache.annotations.table import check_rate
from antcache.annotations.table_splits import by_video
from antcache.annotations.taxonomy import Taxonomy
from antcache.errors import BadAnnotations, BadConfig, NotFound
from antcache.text import listed
from antcache.untrusted import NAME

LABELS, MAPPING, SPLITS = "groundTruth", "mapping.txt", "splits"
BUNDLE = re.compile(r"(train|test)\.split(\d{1,4})\.bundle")
NO_CLASSES = frozenset(("SOS", "EOS"))
"""Marks of where a sequence starts and ends, which some copies of `mapping.txt` list as well."""
NONE = "none"
"""What is given in place of a background where there is none."""


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A published dataset in this form.

    Attributes:
        name: of the dataset.
        fps: frames per second of its labels.
        background: labels that say that nothing is done.
        marks: labels by which it is told, the background among them.
    """

    name: str
    fps: float
    background: tuple[str, ...]
    marks: frozenset[str]


KNOWN = (
    KnownSet(
        name="50salads",
        fps=30.0,
        background=("action_start", "action_end"),
        marks=frozenset(("action_start", "action_end", "serve_salad_onto_plate")),
    ),
    KnownSet(
        name="breakfast",
        fps=15.0,
        background=("SIL",),
        marks=frozenset(("SIL", "pour_cereals", "put_bunTogether")),
    ),
    KnownSet(
        name="gtea",
        fps=15.0,
        background=("background",),
        marks=frozenset(("background", "fold", "scoop", "spread", "shake")),
    ),
)


def read_frames(
    folder: Path,
    *,
    fps: float | None = None,
    name: str | None = None,
    background: Sequence[str] | None = None,
    split_number: int | None = None,
    split_by_video: float | None = None,
) -> Dataset:
    """Labels of frames, as segments.

    Args:
        folder: with `groundTruth`, `mapping.txt` and `splits`.
        fps: frames per second; of the `KNOWN` datasets it is known.
        name: of the dataset.
        background: labels that are no action, or `none`; of the `KNOWN` ones they are known.
        split_number: the published split whose training videos are `train` and test videos
            `validation`; None takes all of them, each as its test videos.
        split_by_video: without published splits, the share of videos that are `validation`.

    Raises:
        BadConfig: frames per second are not known, or a background that is no label.
        NotFound: a file is missing.
        BadAnnotations: a file does not say what it should.
    """
    check_rate(fps)
    require_files(folder, (MAPPING,), hint=f"beside it are {LABELS} and {SPLITS}")
    classes = _mapping(folder / MAPPING)
    known = next((each for each in KNOWN if each.marks <= set(classes)), None)
    rate = fps or (known.fps if known else None)
    if rate is None:
        raise BadConfig(
            "frames per second of the labels are not known", where=folder, hint="give --fps"
        )
    left_out = _background(classes, background, known)
    actions = tuple(c for c in classes if c not in left_out)
    if not actions:
        raise BadConfig("all labels are background", where=folder / MAPPING)
    homes, warnings = _homes(folder, split_number)
    whole, counted = _segments(folder, sorted(homes), classes, actions, rate)
    for label in left_out:
        if runs := counted.get(label, 0):
            warnings.append(f"{label} is background: {runs} runs of frames left out")
    parts, said = _parts(whole, homes, split_by_video)
    return assemble(
        Taxonomy(
            dataset=name or (known.name if known else "frames"),
            verbs=(),
            nouns=(),
            actions=actions,
            action_verbs=(),
            action_nouns=(),
        ),
        parts,
        source=f"labels of frames at {rate:g} per second: {MAPPING}, {LABELS}",
        warnings=[*warnings, *said],
    )


def _mapping(path: Path) -> tuple[str, ...]:
    """Labels in the order of their ids, which need not start at 0."""
    ids: dict[int, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        identity, _, label = line.partition(" ")
        label = label.strip()
        if not is_integer(identity) or not 0 < len(label) <= NAME:
            raise BadAnnotations(
                "no class", where=f"{path}:{number}", expected="id label", found=repr(line[:SHOWN])
            )
        if int(identity) in ids or label in ids.values():
            raise BadAnnotations(
                "a class is listed twice", where=f"{path}:{number}", found=repr(line[:SHOWN])
            )
        ids[int(identity)] = label
    return tuple(ids[key] for key in sorted(ids))


def _background(
    classes: Sequence[str], given: Sequence[str] | None, known: KnownSet | None
) -> tuple[str, ...]:
    """Labels that are no action."""
    named = known.background if known else ()
    if given is not None:
        named = () if tuple(given) == (NONE,) and NONE not in classes else tuple(given)
    for label in named:
        if label not in classes:
            raise BadConfig(
                "the background is no label",
                where=MAPPING,
                expected=f"one of {listed(classes)}",
                found=repr(label[:SHOWN]),
            )
    return (*named, *(label for label in classes if label in NO_CLASSES))


def _segments(
    folder: Path, videos: Sequence[str], classes: Sequence[str], actions: Sequence[str], rate: float
) -> tuple[Part, dict[str, int]]:
    """All runs that are actions, and how many runs there are of each label."""
    number = {label: i for i, label in enumerate(actions)}
    uids, homes, starts, stops, ids = [], [], [], [], []
    places: list[tuple[Path, int]] = []
    counted = dict.fromkeys(classes, 0)
    for video in videos:
        path, first = folder / LABELS / f"{video}.txt", 0
        for label, frames in groupby(read_lines(path)):
            after = first + sum(1 for _ in frames)
            if label not in counted:
                raise BadAnnotations(
                    "a label that is not in the mapping" if label else "a frame without a label",
                    where=f"{path}:{first + 1}",
                    expected=f"one of {MAPPING}",
                    found=repr(label[:SHOWN]),
                )
            counted[label] += 1
            if label in number:
                uids.append(f"{video}_{first}")
                homes.append(video)
                starts.append(first / rate)
                stops.append(after / rate)
                ids.append(number[label])
                places.append((path, first + 1))
            first = after
    if not uids:
        raise BadAnnotations("no frame is of an action", where=folder / LABELS)
    none = [-1] * len(uids)
    segments = Segments.of(
        uid=uids, video=homes, start_s=starts, stop_s=stops, verb=none, noun=none, action=ids
    )
    return Part(segments=segments, place=lambda row: f"{places[row][0]}:{places[row][1]}"), counted


def _homes(folder: Path, split_number: int | None) -> tuple[dict[str, str], list[str]]:
    """The split of every video, and what is to be said; all are in `` where no split is published.

    Promise: every video has a file of labels.
    """
    labels = folder / LABELS
    if not labels.is_dir():
        raise NotFound(f"no folder {LABELS}", where=folder, expected="a file of labels per video")
    there = {path.stem for path in labels.iterdir() if path.suffix == ".txt"}
    if not there:
        raise NotFound("no labels here", where=labels, expected="VIDEO.txt, a label a line")
    bundles = _bundles(folder / SPLITS, there)
    if not bundles:
        if split_number is not None:
            raise NotFound(f"no split {split_number}", where=folder / SPLITS)
        return dict.fromkeys(there, ""), []
    if split_number is None and len(bundles) == 1:
        (split_number,) = bundles
    if split_number is not None:
        if split_number not in bundles:
            numbers = ", ".join(map(str, sorted(bundles)))
            raise BadConfig(
                "no such split", where=folder / SPLITS, expected=numbers, found=split_number
            )
        train, test = bundles[split_number]
        homes = dict.fromkeys(train, "train") | dict.fromkeys(test, "validation")
    else:
        homes = {}
        for number, (_, test) in sorted(bundles.items()):
            for video in test:
                if video in homes:
                    raise BadAnnotations(
                        f"{video} is a test video of two splits, {homes[video]} and test{number}",
                        where=folder / SPLITS,
                        hint="take one of them by --split-number",
                    )
                homes[video] = f"test{number}"
        always = set().union(*(train for train, _ in bundles.values())) - homes.keys()
        homes |= dict.fromkeys(always, "train")
    absent = sorted(there - homes.keys())
    said = [f"{len(absent)} videos are in no split, and left out: {listed(absent)}"]
    return homes, said if absent else []


def _bundles(folder: Path, there: set[str]) -> dict[int, tuple[list[str], list[str]]]:
    """Training and test videos of each published split by number."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = [match for name in names if (match := BUNDLE.fullmatch(name))]
    bundles = {}
    for number in sorted({int(match[2]) for match in found}):
        paths = [folder / f"{kind}.split{number}.bundle" for kind in ("train", "test")]
        for path in paths:
            if not path.is_file():
                raise NotFound(f"a half of split {number} is missing", where=path)
        train, test = (_videos(path, there) for path in paths)
        if both := sorted(set(train) & set(test)):
            raise BadAnnotations(
                f"videos that are in both training and test of split {number}",
                where=paths[1],
                found=listed(both),
            )
        bundles[number] = (train, test)
    return bundles


def _videos(path: Path, there: set[str]) -> list[str]:
    """Videos of a bundle, each of which has labels."""
    seen: dict[str, int] = {}
    for line, text in enumerate(read_lines(path), start=1):
        if not text:
            continue
        video = text.removesuffix(".txt")
        if video not in there:
            raise NotFound(
                "a video without labels",
                where=f"{path}:{line}",
                expected=f"a file of {LABELS}",
                found=repr(text[: 2 * SHOWN]),
            )
        if video in seen:
            raise BadAnnotations(
                f"the video is listed twice, first in line {seen[video]}",
                where=f"{path}:{line}",
                found=video,
            )
        seen[video] = line
    return list(seen)


def _parts(
    whole: Part, homes: dict[str, str], split_by_video: float | None
) -> tuple[dict[str, Part], list[str]]:
    published = "" not in homes.values()
    if split_by_video is not None:
        if published:
            raise BadConfig(
                "the folder has splits already", where=SPLITS, hint="leave --split-by-video out"
            )
        parts, said = by_video(whole, split_by_video)
        return parts, [said]
    home = np.asarray([homes[video] for video in whole.segments.video.tolist()])
    if not published:
        return {"train": whole}, [f"no {SPLITS} here: everything is in train; see --split-by-video"]
    names = [name for name in dict.fromkeys(homes.values()) if name in home]
    return {name: whole.at(np.flatnonzero(home == name)) for name in names}, []
