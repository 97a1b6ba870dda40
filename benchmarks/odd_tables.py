"""Tables of one's own, and folders of published annotations, as users have them.

Promise: see `odd_case.py`. Folders have as many classes as the dataset, and a few segments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from forked import Outcome
from odd_case import OddCase

from antcache.annotations import Segments, Taxonomy
from antcache.annotations.sizes import SIZES
from antcache.store import Store

HEAD = "uid,video,start,stop,verb,noun"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a2146' * 8}\nsize 345678\n"
Wrong = Callable[[Path, Sequence[Outcome]], str]
Files = Mapping[str, str | bytes]


def rows(*videos: str, head: str = HEAD, more: Sequence[str] = ("",)) -> str:
    """A table with three segments of each video; `more` are the cells of further columns."""
    lines = [head]
    for i in range(3):
        for j, video in enumerate(videos):
            verb, noun = ("take", "put")[i % 2], ("pan", "cup")[j % 2]
            line = f"{video}-{i},{video},{4 * i}.5,{4 * i + 2}.25,{verb},{noun}"
            lines.append(line + more[j % len(more)])
    return "\n".join(lines) + "\n"


def write(folder: Path, files: Files) -> None:
    """Files by name, texts in UTF-8."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def extracted(path: Path, *videos: str) -> Store:
    """A store with features of these videos."""
    store = Store.create(path)
    store.create_stream("rgb", dim=2, dtype="float32", fps=2.0, source="a camera", config={})
    for video in videos:
        store.write_features("rgb", video, np.zeros((60, 2), np.float32))
    return store


def table(
    name: str, files: Files, wrong: Wrong, *words: str, stored: Sequence[str] = ()
) -> OddCase:
    """A case of the files of a folder, imported with more words into a store with features."""

    def make(folder: Path) -> list[list[str]]:
        write(folder / "table", files)
        if stored:
            extracted(folder / "s", *stored)
        return [["annotations", "import", "table", "table", "s", *words]]

    return OddCase(name=name, kind="table", make=make, wrong=wrong)


def holds(
    splits: Mapping[str, Sequence[str]],
    *notes: str,
    classes: Mapping[str, Sequence[str]] | None = None,
) -> Wrong:
    """Right is a store with these videos in its splits, after these words of notes."""

    def wrong(folder: Path, done: Sequence[Outcome]) -> str:
        if done[-1].code:
            return f"refused: {done[-1].stderr.strip()}"
        store = Store.open(folder / "s")
        found = {name: sorted(store.labels(name).videos) for name in store.splits()}
        if found != {name: sorted(videos) for name, videos in splits.items()}:
            return f"videos {found}"
        for kind, names in (classes or {}).items():
            if list(getattr(store.taxonomy, kind)) != list(names):
                return f"{kind} {getattr(store.taxonomy, kind)}"
        return _unsaid(done[-1], notes)

    return wrong


def refuses(*words: str) -> Wrong:
    """Right is one line with these words, and no labels."""

    def wrong(folder: Path, done: Sequence[Outcome]) -> str:
        if done[-1].code != 2:
            return f"exit {done[-1].code}"
        if (folder / "s").exists() and Store.open(folder / "s").splits():
            return "labels were written"
        return _unsaid(done[-1], words)

    return wrong


def _unsaid(outcome: Outcome, words: Sequence[str]) -> str:
    said = outcome.stdout + outcome.stderr  # with --json, notes are in what is printed
    missing = [word for word in words if word not in said]
    return f"nothing is said of {missing}: {outcome.stderr.strip()!r}" if missing else ""


def split_by_video(folder: Path, done: Sequence[Outcome]) -> str:
    """Whole videos, as many as were asked for."""
    if done[-1].code:
        return f"refused: {done[-1].stderr.strip()}"
    store = Store.open(folder / "s")
    train, validation = (store.labels(name) for name in ("train", "validation"))
    if set(train.videos) & set(validation.videos):
        return "a video is in both splits"
    if (len(train.videos), len(validation.videos)) != (8, 2) or len(train) + len(validation) != 30:
        return f"{len(train.videos)} and {len(validation.videos)} videos"
    return _unsaid(done[-1], ["8 videos (24 segments) are train, 2 (6) validation"])


IDS = f"{HEAD}\n7.0,P01,1.5,2.25,3.0,0.0\n8.0,P01,3.5,4.25,0.0,1.0\n"
TWO = {"train": ("P01",), "validation": ("P02",)}

TABLES = (
    table(
        "videos named as files",
        {"train.csv": rows("P01.mp4"), "validation.csv": rows("P02.MOV")},
        holds(TWO, "P01.mp4 is P01"),
    ),
    table(
        "videos named as files in folders, of a store that has them",
        {"train.csv": rows("day1/P01.mp4"), "validation.csv": rows("day1\\P02")},
        holds(TWO, "2 of 2 videos"),
        stored=("P01", "P02"),
    ),
    table(
        "a video whose name has a point, which the store has",
        {"train.csv": rows("OP01.Salad.mp4"), "validation.csv": rows("P02")},
        holds({"train": ("OP01.Salad.mp4",), "validation": ("P02",)}),
        stored=("OP01.Salad.mp4", "P02"),
    ),
    table(
        "videos in other letters than the store's",
        {"train.csv": rows("p01"), "validation.csv": rows("P02")},
        refuses("'P01'", "found 'p01'"),
        stored=("P01", "P02"),
    ),
    table(
        "two folders with a video of one name",
        {"train.csv": rows("day1/P01.mp4", "day2/P01.mp4")},
        refuses("day1/P01.mp4 and day2/P01.mp4"),
    ),
    table(
        "splits in a column, in capitals",
        {"all.csv": rows("P01", "P02", head=f"{HEAD},split", more=(",TRAIN", ",Val"))},
        holds(TWO),
    ),
    table(
        "splits as files with capitals",
        {"Train.csv": rows("P01"), "VAL.csv": rows("P02")},
        holds(TWO),
    ),
    table(
        "one file, split by video",
        {"labels.csv": rows(*(f"P{i:02d}" for i in range(10)))},
        split_by_video,
        "--split-by-video",
        "0.2",
    ),
    table(
        "one file for everything",
        {"labels.csv": rows("P01", "P02")},
        holds({"labels": ("P01", "P02")}, "labels.csv is one split", "--split-by-video"),
    ),
    table(
        "ids as pandas writes them beside an empty cell",
        {"train.csv": IDS},
        holds(
            {"train": ("P01",)},
            classes={
                "verbs": [f"verb {i}" for i in range(4)],
                "nouns": ["noun 0", "noun 1"],
                "action_verbs": [0, 3],
            },
        ),
    ),
    table(
        "a noun that was empty",
        {"train.csv": rows("P01") + "x,P01,20.5,21,take,nan\n"},
        holds({"train": ("P01",)}, "'nan' is read as a name", classes={"nouns": ["nan", "pan"]}),
    ),
    table(
        "an id that was empty",
        {"train.csv": IDS + "9.0,P01,20.5,21,nan,1.0\n"},
        refuses("train.csv:4", "'verb' has no id here", "'nan'"),
    ),
    table(
        "a byte-order mark and Windows line ends",
        {"train.csv": b"\xef\xbb\xbf" + rows("P01").replace("\n", "\r\n").encode()},
        holds({"train": ("P01",)}, classes={"nouns": ["pan"]}),
    ),
    table(
        "semicolons between the cells",
        {"train.csv": rows("P01").replace(",", ";")},
        refuses("train.csv:1", "lacks uid, video, start, stop", "uid;video"),
    ),
    table("a Git LFS pointer", {"train.csv": POINTER}, refuses("train.csv", "git lfs pull")),
)


def published(dataset: str, form: str) -> dict[str, str]:
    """The files of a dataset in RULSTM's form, with all of its classes and a few segments."""
    sizes = SIZES[dataset]
    pairs = [(i % sizes.verbs, i % sizes.nouns) for i in range(sizes.actions)]
    names = [(f"verb{v}", f"noun{n}") for v, n in pairs]
    several = list(enumerate(zip(pairs, names, strict=True)))
    actions = {
        "epic-kitchens-55": ["id,action,verb,noun"]
        + [f"{i}, {a}_{b},{v},{n}" for i, ((v, n), (a, b)) in several],
        "epic-kitchens-100": ["id,verb,noun,action"]
        + [f"{i},{v},{n},{a} {b}" for i, ((v, n), (a, b)) in several],
        "egtea": [f"{i}, {v}_{n}, {a}_{b}" for i, ((v, n), (a, b)) in several],
    }[dataset]
    files = {"actions.csv": "\n".join(actions) + "\n"}
    for split, video, first in (("training", "P01_01", 0), ("validation", "P02_01", 20)):
        files[f"{split}{form}.csv"] = "".join(
            f"{first + i}, {video}, {60 + 90 * i}, {100 + 90 * i}, {v}, {n}, {i}\n"
            for i, (v, n) in enumerate(pairs[:20])
        )
    return files


def folder(
    name: str, files: Files, wrong: Wrong, *lines: str, prepare: Callable[[Path], Any] | None = None
) -> OddCase:
    """A case of a folder of annotations, `given`, and the command lines that read it."""

    def make(here: Path) -> list[list[str]]:
        write(here / "given", files)
        if prepare is not None:
            prepare(here)
        return [line.split() for line in lines]

    return OddCase(name=name, kind="folder", make=make, wrong=wrong)


def class_list(count: int) -> str:
    """A class file of EPIC-KITCHENS-100."""
    return "id,key,instances,category\n" + "".join(
        f"{i},c{i},\"['c{i}']\",x\n" for i in range(count)
    )


EK55 = published("epic-kitchens-55", "")
EK100 = published("epic-kitchens-100", "") | {
    "EPIC_100_verb_classes.csv": class_list(97),
    "EPIC_100_noun_classes.csv": class_list(300),
    "EPIC_100_noun_classes_v2.csv": class_list(305),
    "test_timestamps.csv": "".join(
        f"P01_101_{i},P01_101,{90 * i},{90 * i + 40}\n" for i in range(10)
    ),
}
MANY_SHOT = {
    "EPIC_many_shot_verbs.csv": "verb_class,verb\n" + "".join(f"{i},v\n" for i in range(0, 125, 5)),
    "EPIC_many_shot_nouns.csv": "noun_class,noun\n" + "".join(f"{i},n\n" for i in range(0, 352, 5)),
}


def three_hundred(here: Path, done: Sequence[Outcome]) -> str:
    """EPIC-KITCHENS-100 has 300 nouns, and a list of segments without labels."""
    if done[-1].code:
        return f"refused: {done[-1].stderr.strip()}"
    found = json.loads(done[-1].stdout)
    if (found["verbs"], found["nouns"], found["actions"]) != (97, 300, 3806):
        return f"{found['verbs']} verbs, {found['nouns']} nouns, {found['actions']} actions"
    return _unsaid(done[-1], ["test_timestamps.csv: 10 segments without labels passed over"])


def derived(here: Path, done: Sequence[Outcome]) -> str:
    """The many-shot actions are those whose verb and noun are many-shot."""
    if done[-1].code:
        return f"refused: {done[-1].stderr.strip()}"
    expected = sum(i % 125 % 5 == 0 and i % 352 % 5 == 0 for i in range(2513))
    found = json.loads(done[-1].stdout)["many_shot_actions"]
    if found != expected:
        return f"{found} many-shot actions, not {expected}"
    return _unsaid(done[-1], ["no EPIC_many_shot_actions.csv"])


def with_305(here: Path) -> None:
    """A store as it was made of version 2 of the nouns, with features."""
    from antcache.annotations import read_annotations

    good = read_annotations("epic-kitchens-100", here / "given")
    fields = good.taxonomy.to_dict()
    fields["nouns"] = [*fields["nouns"], *(f"hand {i}" for i in range(5))]
    bad: dict[str, Segments] = good.splits
    store = extracted(here / "s", "P01_01", "P02_01")
    store.write_splits(bad, Taxonomy.from_dict(fields), source="an older version")


def mended(here: Path, done: Sequence[Outcome]) -> str:
    """Refused without --overwrite; with it all is of 300 nouns, and the features are there."""
    first, second = done
    if first.code != 2 or "305 nouns" not in first.stderr or "--overwrite" not in first.stderr:
        return f"without --overwrite: exit {first.code}, {first.stderr.strip()!r}"
    if second.code:
        return f"with --overwrite: {second.stderr.strip()}"
    store = Store.open(here / "s")
    if len(store.taxonomy.nouns) != 300 or [len(store.labels(s)) for s in store.splits()] != [
        20,
        20,
    ]:
        return f"{len(store.taxonomy.nouns)} nouns in {store.splits()}"
    return "" if store.videos("rgb") == ["P01_01", "P02_01"] else "features are gone"


IMPORT = "annotations import {} given s"
FOLDERS = (
    folder(
        "EPIC-KITCHENS-100 with the nouns of another challenge",
        EK100,
        three_hundred,
        f"{IMPORT.format('epic-kitchens-100')} --json",
    ),
    folder(
        "a store with the nouns of another challenge",
        EK100,
        mended,
        IMPORT.format("epic-kitchens-100"),
        f"{IMPORT.format('epic-kitchens-100')} --overwrite",
        prepare=with_305,
    ),
    folder(
        "RULSTM's EPIC-KITCHENS-55, without the list of many-shot actions",
        EK55 | MANY_SHOT,
        derived,
        f"{IMPORT.format('epic-kitchens-55')} --json",
    ),
    folder(
        "EPIC-KITCHENS-55 given as EPIC-KITCHENS-100",
        EK55,
        refuses("it looks like epic-kitchens-55", "2513 actions"),
        IMPORT.format("epic-kitchens-100"),
    ),
    folder(
        "EGTEA Gaze+ given as EPIC-KITCHENS-55",
        published("egtea", "1"),
        refuses("it looks like egtea", "106 actions"),
        IMPORT.format("epic-kitchens-55"),
    ),
)

CASES: tuple[OddCase, ...] = (*TABLES, *FOLDERS)
