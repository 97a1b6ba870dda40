"""MS-TCN's form: labels of frames become segments, with nothing made up for verb and noun."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.annotations import read_annotations
from antcache.cli.main import cli
from antcache.errors import AntcacheError, BadAnnotations, BadConfig, NotFound
from antcache.store import Store

FILES: dict[str, str | bytes] = {
    "mapping.txt": "0 SIL\n1 pour\n2 stir\n3 SOS\n",
    "groundTruth/a.txt": "SIL\nSIL\npour\npour\npour\nstir\nSIL\npour\n",
    "groundTruth/b.txt": "pour\nstir\n\n",
    "groundTruth/c.txt": b"\xef\xbb\xbfstir\rstir\r\n",
    "splits/train.split1.bundle": "b.txt\nc.txt\n",
    "splits/test.split1.bundle": "a.txt\n",
    "splits/train.split2.bundle": "a.txt\nc.txt\n",
    "splits/test.split2.bundle": "b.txt\n",
}
OPTIONS = {"fps": 10.0, "background": ("SIL",)}
Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Write:
    def write(changes: dict[str, str | bytes | None] | None = None) -> Path:
        for name, text in {**FILES, **(changes or {})}.items():
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / "set"

    return write


def test_runs_of_frames_are_segments(folder: Write) -> None:
    dataset = read_annotations("frames", folder(), **OPTIONS)
    assert (dataset.name, dataset.taxonomy.actions) == ("frames", ("pour", "stir"))
    assert not dataset.taxonomy.paired
    assert list(dataset.splits) == ["test1", "test2", "train"]  # c is a test video of none
    a = dataset.splits["test1"]
    assert a.uid.tolist() == ["a_2", "a_5", "a_7"]
    assert a.action.tolist() == [0, 1, 0]
    np.testing.assert_allclose(a.start_s, [0.2, 0.5, 0.7])
    np.testing.assert_allclose(a.stop_s, [0.5, 0.6, 0.8])
    assert dataset.warnings == ("SIL is background: 2 runs of frames left out",)
    assert dataset.summary()["splits"]["test1"]["actions"] == 2
    assert "verbs" not in dataset.summary()


def test_one_published_split_is_train_and_validation(folder: Write) -> None:
    dataset = read_annotations("frames", folder(), split_number=1, **OPTIONS)
    assert {name: own.videos for name, own in dataset.splits.items()} == {
        "train": ("b", "c"),
        "validation": ("a",),
    }
    alone = dict.fromkeys(f"splits/{half}.split2.bundle" for half in ("train", "test"))
    only = read_annotations("frames", folder(alone), **OPTIONS)
    assert list(only.splits) == ["train", "validation"]
    every = read_annotations("frames", folder(), split_number=1, fps=10.0, background=("none",))
    assert every.taxonomy.actions == ("SIL", "pour", "stir")


def test_without_published_splits_videos_are_split_or_all_train(folder: Write) -> None:
    home = folder()
    shutil.rmtree(home / "splits")
    whole = read_annotations("frames", home, **OPTIONS)
    assert {name: own.videos for name, own in whole.splits.items()} == {"train": ("a", "b", "c")}
    assert whole.warnings[-1] == "no splits here: everything is in train; see --split-by-video"
    halves = read_annotations("frames", home, split_by_video=0.4, **OPTIONS)
    assert {name: len(own.videos) for name, own in halves.splits.items()} == {
        "train": 2,
        "validation": 1,
    }


@pytest.mark.parametrize(
    ("changes", "options", "error", "words"),
    [
        (
            {"groundTruth/a.txt": "pour\nwash\n"},
            {},
            BadAnnotations,
            r"a\.txt:2: a label that is not in the mapping.*'wash'",
        ),
        (
            {"groundTruth/a.txt": "pour\n\nstir\n"},
            {},
            BadAnnotations,
            r"a\.txt:2: a frame without a label",
        ),
        ({"groundTruth/a.txt": "\n\n"}, {}, BadAnnotations, r"a\.txt: the file is empty"),
        (
            {"groundTruth/a.txt": "po\xfcr\n".encode("latin-1")},
            {},
            BadAnnotations,
            r"a\.txt:1: not UTF-8 text \(a text file in UTF-8",
        ),
        (
            {"groundTruth/a.txt": "pour\n".encode("utf-16")},
            {},
            BadAnnotations,
            r"a\.txt:1: not UTF-8 text|not a text file",
        ),
        (
            {
                "groundTruth/a.txt": "SIL\n",
                "groundTruth/b.txt": "SIL\n",
                "groundTruth/c.txt": "SIL\n",
            },
            {},
            BadAnnotations,
            "no frame is of an action",
        ),
        (
            {"splits/test.split1.bundle": "d.txt\n"},
            {},
            NotFound,
            r"test\.split1\.bundle:1: a video without labels.*'d\.txt'",
        ),
        ({"splits/test.split1.bundle": "../a.txt\n"}, {}, NotFound, "a video without labels"),
        (
            {"splits/test.split1.bundle": "\n"},
            {},
            BadAnnotations,
            r"test\.split1\.bundle: the file is empty",
        ),
        (
            {"splits/test.split1.bundle": "a.txt\nb.txt\n"},
            {},
            BadAnnotations,
            "videos that are in both training and test of split 1: found b",
        ),
        (
            {"splits/test.split2.bundle": "a.txt\n", "splits/train.split2.bundle": "b.txt\n"},
            {},
            BadAnnotations,
            "a is a test video of two splits, test1 and test2.*--split-number",
        ),
        (
            {"splits/train.split1.bundle": "b.txt\nb\n"},
            {},
            BadAnnotations,
            "the video is listed twice, first in line 1",
        ),
        (
            {"splits/train.split3.bundle": "b.txt\n"},
            {},
            NotFound,
            r"test\.split3\.bundle: a half of split 3 is missing",
        ),
        (
            {"mapping.txt": "SIL\n"},
            {},
            BadAnnotations,
            r"mapping\.txt:1: no class: expected id label",
        ),
        ({"mapping.txt": f"0 {'x' * 300}\n"}, {}, BadAnnotations, r"mapping\.txt:1: no class"),
        (
            {"mapping.txt": "0 SIL\n0 pour\n"},
            {},
            BadAnnotations,
            r"mapping\.txt:2: a class is listed twice",
        ),
        (
            {"mapping.txt": "0 SIL\n1 SIL\n"},
            {},
            BadAnnotations,
            r"mapping\.txt:2: a class is listed twice",
        ),
        (
            {},
            {"background": ("silence",)},
            BadConfig,
            "the background is no label: expected one of SIL, pour",
        ),
        ({}, {"background": ("SIL", "pour", "stir")}, BadConfig, "all labels are background"),
        ({}, {"fps": None}, BadConfig, "frames per second of the labels are not known"),
        ({}, {"fps": 0.0}, BadConfig, "frame rate"),
        ({}, {"split_number": 3}, BadConfig, "no such split: expected 1, 2, found 3"),
        ({}, {"split_by_video": 0.5}, BadConfig, "the folder has splits already"),
    ],
)
def test_what_is_wrong_is_one_line(folder: Write, changes, options, error, words) -> None:
    with pytest.raises(error, match=words) as raised:
        read_annotations("frames", folder(changes), **{**OPTIONS, **options})
    assert isinstance(raised.value, AntcacheError)
    assert "\n" not in str(raised.value)


def test_the_command_knows_the_published_sets(data_dir: Path, tmp_path: Path) -> None:
    """Real files: three videos of 50 Salads and four of Breakfast, against their timelines."""
    for name, fps, classes in (("50salads", 30, 17), ("breakfast", 15, 47)):
        source, home = data_dir / name, tmp_path / name
        shutil.copytree(source / "original" / "groundTruth", home / "groundTruth")
        shutil.copy(source / "mapping.txt", home)
        for path in (home, *home.rglob("*")):
            path.chmod(0o755)
        words = ["annotations", "import", "frames", str(home), str(tmp_path / f"{name}.zarr")]
        result = CliRunner().invoke(cli, [*words, "--split-by-video", "0.3", "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["dataset"] == name
        store = Store.open(tmp_path / f"{name}.zarr")
        assert (len(store.taxonomy.actions), store.splits()) == (classes, ["train", "validation"])
        with (source / "segments.csv").open(newline="") as file:
            videos = {path.stem for path in (home / "groundTruth").iterdir()}
            own = {"SIL", "action_start", "action_end"}
            expected = [
                (row["video"], row["label"], int(row["start_frame"]), int(row["stop_frame"]))
                for row in csv.DictReader(file)
                if row["video"] in videos and row["label"] not in own
            ]
        found = []
        for split in store.splits():
            s = store.labels(split)
            columns = (s.video, s.action, s.start_s * fps, s.stop_s * fps)
            found += [
                (str(v), store.taxonomy.actions[a], round(start), round(stop))
                for v, a, start, stop in zip(*columns, strict=True)
            ]
        assert sorted(found) == sorted(expected)
