"""The figures of the published annotations, on the real files."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from antcache.annotations import (
    Dataset,
    protocol_for,
    read_annotations,
    sample_windows,
)
from antcache.annotations.parity import PARITIES
from antcache.timebase import exact_floor


def test_segments_and_videos_that_are_read(ek55: Dataset, ek55_official: Dataset, egtea: Dataset):
    for dataset in (ek55, ek55_official):
        assert {k: len(v) for k, v in dataset.splits.items()} == {
            "train": 23_493,
            "validation": 4_979,
        }
        assert {k: len(v.videos) for k, v in dataset.splits.items()} == {
            "train": 232,
            "validation": 40,
        }
    assert {k: len(v) for k, v in egtea.splits.items()} == {"train": 8_299, "validation": 2_022}
    assert set(egtea.splits["validation"].videos) < set(egtea.splits["train"].videos)
    assert not set(ek55.splits["validation"].videos) & set(ek55.splits["train"].videos)


def test_classes(ek55: Dataset, egtea: Dataset):
    classes = ek55.taxonomy
    assert (len(classes.actions), len(classes.verbs), len(classes.nouns)) == (2_513, 125, 352)
    assert classes.actions[0] == "take_pan"
    assert classes.nouns[2] == "pan:dust"
    classes = egtea.taxonomy
    assert (len(classes.actions), len(classes.verbs), len(classes.nouns)) == (106, 19, 51)
    assert classes.actions[2] == "Take_eating:utensil"
    assert classes.verbs[2] == "Take"
    assert classes.nouns[2] == "eating:utensil"


def test_both_forms_of_epic_kitchens_55_have_the_same_classes_uids_and_labels(
    ek55: Dataset, ek55_official: Dataset
):
    assert ek55.taxonomy == ek55_official.taxonomy
    for split, rulstm in ek55.splits.items():
        official = ek55_official.splits[split]
        order = [np.argsort(s.uid) for s in (rulstm, official)]
        for column in ("uid", "video", "verb", "noun", "action"):
            left, right = getattr(rulstm, column)[order[0]], getattr(official, column)[order[1]]
            np.testing.assert_array_equal(left, right)


def test_the_many_shot_list_of_rulstms_folder_is_the_official_one(
    data_dir: Path, ek55: Dataset, tmp_path: Path
):
    for path in (data_dir / "epic-kitchens-55").glob("*.csv"):
        if path.name != "EPIC_many_shot_actions.csv":
            (tmp_path / path.name).symlink_to(path)
    assert read_annotations("epic-kitchens-55", tmp_path).taxonomy == ek55.taxonomy


def test_many_shot_lists_and_unseen_actions(ek55: Dataset):
    classes = ek55.taxonomy
    train, validation = ek55.splits["train"], ek55.splits["validation"]
    present = np.unique(validation.action)
    assert classes.many_shot_actions is not None
    assert classes.any_shot_actions is not None
    assert len(classes.many_shot_actions) == 819
    assert np.isin(present, classes.many_shot_actions).sum() == 451
    assert len(classes.any_shot_actions) == 2_265
    assert np.isin(present, classes.any_shot_actions).sum() == 883
    assert 2_513 - len(np.unique(train.action)) == 222
    assert (~np.isin(validation.action, train.action)).sum() == 349


def test_windows_kept_dropped_and_padded(ek55: Dataset, ek55_official: Dataset, egtea: Dataset):
    """429 padded windows: training and validation together, those that are kept."""
    for dataset in (ek55, ek55_official):
        counts = dataset.summary()["splits"]
        assert [counts[s]["windows_dropped"] for s in ("train", "validation")] == [63, 10]
        assert [counts[s]["windows_padded"] for s in ("train", "validation")] == [364, 65]
        assert counts["validation"]["windows_kept"] == 4_969
    for counts in egtea.summary()["splits"].values():
        assert (counts["windows_dropped"], counts["windows_padded"]) == (0, 0)


def test_float_parity_lands_one_frame_earlier_on_some_rows(ek55: Dataset, egtea: Dataset):
    """1.7 % of EGTEA; 2.2 % of EPIC-KITCHENS-55 where times come from frames."""
    measured = {}
    for dataset in (ek55, egtea):
        start = np.concatenate([s.start_s for s in dataset.splits.values()])
        gap = protocol_for(dataset.name).gap_s
        last = np.zeros(1, dtype=np.int64)
        exact, avt = (PARITIES[p](start, gap, last, 1.0)[:, 0] for p in ("exact", "avt"))
        assert set((exact - avt).tolist()) == {0, 1}
        measured[dataset.name] = int((avt != exact).sum())
    assert measured == {"egtea": 177, "epic-kitchens-55": 613}
    assert round(100 * 177 / 10_321, 1) == 1.7


def test_float_parity_keeps_and_pads_the_same_number_of_windows_of_the_official_times(
    ek55_official: Dataset,
):
    """76 windows end a frame earlier, none is lost."""
    protocol = protocol_for("epic-kitchens-55")
    start = np.concatenate([s.start_s for s in ek55_official.splits.values()])
    exact = sample_windows(start, protocol)
    avt = sample_windows(start, replace(protocol, parity="avt"))
    np.testing.assert_array_equal(exact.kept, avt.kept)
    assert (exact.frames[:, -1] != avt.frames[:, -1]).sum() == 76
    assert (avt.padded.any(axis=1) & avt.kept).sum() == 429


def test_names_without_class_files(write, data_dir: Path, ek55: Dataset):
    """The commonest name in the actions is the official one for 94 of 119 verbs."""
    source = data_dir / "epic-kitchens-55"
    names = ("training.csv", "validation.csv", "actions.csv")
    folder = write({name: (source / name).read_bytes() for name in names})
    taxonomy = read_annotations("epic-kitchens-55", folder).taxonomy
    used = sorted(set(taxonomy.action_verbs))
    assert sum(taxonomy.verbs[i] == ek55.taxonomy.verbs[i] for i in used) == 94
    assert len(used) == 119
    assert taxonomy.verbs[94] == "verb 94"


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, skipinitialspace=True))


@pytest.mark.parametrize(
    ("name", "gap"),
    [
        ("epic-kitchens-55/training.csv", Fraction(1)),
        ("epic-kitchens-55/validation.csv", Fraction(1)),
        ("egtea/training1.csv", Fraction(1, 2)),
        ("egtea/validation1.csv", Fraction(1, 2)),
    ],
)
def test_last_frames_and_rows_are_those_of_fractions(data_dir: Path, name: str, gap: Fraction):
    frames = [int(row[2]) for row in _rows(data_dir / name)]
    times = [Fraction(frame, 30) - gap for frame in frames]
    start = np.asarray(frames) / 30
    for fps in (30, 4, 25):
        exact = [math.floor(time * fps) for time in times]
        np.testing.assert_array_equal(exact_floor((start - float(gap)) * fps), exact)


def test_timestamps_against_fractions_and_against_the_frames_of_rulstm(
    data_dir: Path, ek55: Dataset, ek55_official: Dataset
):
    """RULSTM's start is max(1, floor(t * 30)) in float64: 15 segments start at 0 s.

    Exactly, 67 more would be one frame later (1.1 s * 30 is 33, but less in float64).
    """
    rows = _rows(data_dir / "epic-kitchens-55" / "EPIC_train_action_labels.csv")[1:]
    stamps = {row[0]: [Fraction(part) for part in row[4].split(":")] for row in rows}
    exact = {uid: math.floor((h * 3600 + m * 60 + s) * 30) for uid, (h, m, s) in stamps.items()}
    frame = {
        uid: round(start * 30)
        for segments in ek55.splits.values()
        for uid, start in zip(segments.uid.tolist(), segments.start_s, strict=True)
    }
    uids = [uid for s in ek55_official.splits.values() for uid in s.uid.tolist()]
    start = np.concatenate([s.start_s for s in ek55_official.splits.values()])
    published = np.asarray([frame[uid] for uid in uids])
    np.testing.assert_array_equal(exact_floor(start * 30), [exact[uid] for uid in uids])
    in_float = np.floor(start * 30).astype(int)
    assert (in_float != published).sum() == 15
    np.testing.assert_array_equal(np.maximum(in_float, 1), published)
    assert (exact_floor(start * 30) != published).sum() == 82


def test_odd_but_real(ek55: Dataset, egtea: Dataset):
    """Counted independently in the order of time, pair by pair."""
    known = {
        ("epic-kitchens-55", "train"): (6_456, 45, 1),
        ("epic-kitchens-55", "validation"): (1_432, 10, 2),
        ("egtea", "train"): (300, 6, 1),
        ("egtea", "validation"): (40, 1, 0),
    }
    for dataset in (ek55, egtea):
        for name, segments in dataset.splits.items():
            counts = dataset.summary()["splits"][name]
            overlaps = equal = duplicates = 0
            for video in segments.videos:
                one = segments[segments.video == video]
                keys = sorted(
                    zip(one.start_s.tolist(), one.stop_s.tolist(), one.action.tolist(), strict=True)
                )
                latest = -1.0
                for before, (start, stop, action) in zip([None, *keys], keys, strict=False):
                    overlaps += start < latest
                    equal += before is not None and before[0] == start
                    duplicates += before == (start, stop, action)
                    latest = max(latest, stop)
            found = (counts["overlaps"], counts["equal_starts"], counts["duplicates"])
            assert found == (overlaps, equal, duplicates) == known[dataset.name, name]
