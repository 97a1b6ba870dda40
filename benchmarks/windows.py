"""Are the windows of every parity those of the published code, on every segment that is at hand?

    python benchmarks/windows.py [--record]

AVT and RULSTM are followed step by step, one segment at a time, in plain Python and float64, as
their published readers go (facebookresearch/AVT, `datasets/base_video_dataset.py` and
`epic_kitchens.py`; fpv-iplab/rulstm, `RULSTM/dataset.py`), and exact arithmetic in fractions. The
frames, and which segments are kept, must be those of `sample_windows`: `avt` on the form that AVT
reads, `rulstm` on RULSTM's CSVs, `exact` on both. Windows of 10 frames at the dataset's own rate
and at rates that do not divide 30, and RULSTM's 14 steps.

Beside it, without a bound, what each parity gives on the form that its source does not read: how
many windows of RULSTM's CSVs of EPIC-KITCHENS-55 are not those that AVT takes from the official
timestamps, and in how many of RULSTM's own windows float arithmetic shows.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from record import DATA, Figure, finish

from antcache.annotations import Protocol, protocol_for, read_annotations, sample_windows
from antcache.timebase import parse_timestamp

FORMS = {
    "epic-kitchens-55": ("epic-kitchens-55", "epic-kitchens-55"),
    "epic-kitchens-55-official": ("epic-kitchens-55", "epic-kitchens-55"),
    "epic-kitchens-100": ("epic-kitchens-100", "epic-kitchens-100/rulstm"),
    "epic-kitchens-100-official": ("epic-kitchens-100", "epic-kitchens-100/official"),
    "egtea": ("egtea", "egtea"),
}
"""Dataset and folder of each form."""
OFFICIAL = ("EPIC_train_action_labels.csv", "EPIC_100_train.csv", "EPIC_100_validation.csv")
"""Official tables, of which those that are in the folder are read."""
READ_BY = {
    "avt": ("epic-kitchens-55-official", "epic-kitchens-100-official", "egtea"),
    "rulstm": ("epic-kitchens-55", "epic-kitchens-100", "egtea"),
    "exact": tuple(FORMS),
}
"""Which forms each code reads."""
RATES = (4.0, 7.0, 20.0)
"""Frames per second beside the dataset's own."""

Window = list[int] | None
"""The frames of a segment, or None where it is dropped."""


def avt(start_s: float, protocol: Protocol) -> Window:
    """AVT: cut the observed time, read all its frames, keep every stride-th from the back."""
    observed_s, fps = protocol.num_frames / protocol.rate, 30.0
    end = start_s - protocol.gap_s
    begin = end - observed_s
    if end < 1 / fps:
        return None
    begin, end = max(begin, 0), max(end, 0)
    wanted = round(protocol.num_frames * (fps / protocol.rate))
    skipped = max(int(fps * (end - begin)) - wanted, 0)
    stop = max(min(end, begin + (skipped + wanted) / fps), 0)
    begin = min(max(begin + skipped / fps, 0), stop)
    read = list(range(math.floor(begin * fps) + 1, math.floor(stop * fps) + 1))
    first = min(frame for frame in read if frame >= 1)
    read = [max(frame, first) for frame in read]
    kept = read[:: -max(round(fps / protocol.rate), 1)][::-1]
    kept = [kept[0]] * (protocol.num_frames - len(kept)) + kept
    return kept[-protocol.num_frames :]


def rulstm(start_s: float, protocol: Protocol) -> Window:
    """RULSTM: times before the start in equal steps, each rounded down to a frame."""
    point = round(start_s * 30)
    back = [protocol.gap_s + i / protocol.rate for i in reversed(range(protocol.num_frames))]
    return _padded([math.floor((point / 30 - seconds) * 30) for seconds in back])


def exact(start_s: float, protocol: Protocol) -> Window:
    """The last frame at or before each time, in fractions."""
    start = Fraction(start_s).limit_denominator(3000) - Fraction(protocol.gap_s)
    rate = Fraction(protocol.rate)
    below = start.denominator * rate.numerator
    steps = reversed(range(protocol.num_frames))
    return _padded(
        [
            30
            * (start.numerator * rate.numerator - i * rate.denominator * start.denominator)
            // below
            for i in steps
        ]
    )


def _padded(frames: Sequence[int]) -> Window:
    seen = [frame for frame in frames if frame >= 1]
    return [frame if frame >= 1 else min(seen) for frame in frames] if seen else None


PUBLISHED: dict[str, Callable[[float, Protocol], Window]] = {
    "avt": avt,
    "rulstm": rulstm,
    "exact": exact,
}


def protocols_of(dataset: str, parity: str) -> list[Protocol]:
    """Windows to compare: the dataset's own, other rates, and RULSTM's fourteen steps."""
    own = protocol_for(dataset)
    many = [own, *(replace(own, rate=rate) for rate in RATES)]
    many.append(Protocol(gap_s=0.25, num_frames=14, rate=4.0))
    return [replace(protocol, parity=parity) for protocol in many]


def differing(start_s: Sequence[float], protocol: Protocol) -> int:
    """Segments whose window is not the published one."""
    found = sample_windows(start_s, protocol)
    count = 0
    for i, start in enumerate(start_s):
        wanted = PUBLISHED[protocol.parity](start, protocol)
        kept = bool(found.kept[i])
        count += kept != (wanted is not None) or (kept and found.frames[i].tolist() != wanted)
    return count


def starts_of(form: str, folder: Path, limit: int | None) -> list[float]:
    """Starts of all segments, or of `limit` spread over them, the earliest included."""
    if form.endswith("-official"):
        found: list[float] = []
        for table in (folder / name for name in OFFICIAL if (folder / name).is_file()):
            with table.open(encoding="utf-8", newline="") as file:
                found += [parse_timestamp(row["start_timestamp"]) for row in csv.DictReader(file)]
        starts = np.asarray(found)
    else:
        splits = read_annotations(form, folder).splits.values()
        starts = np.concatenate([segments.start_s for segments in splits])
    starts.sort()
    if limit is not None and limit < len(starts):
        starts = starts[np.linspace(0, len(starts) - 1, limit).astype(int)]
    return [float(start) for start in starts]


def compare(data: Path, limit: int | None = None) -> list[Figure]:
    """One figure for each parity and form: windows that differ, of all that were compared."""
    figures = []
    for parity, forms in READ_BY.items():
        for form in forms:
            dataset, folder = FORMS[form]
            starts = starts_of(form, data / folder, limit)
            protocols = protocols_of(dataset, parity)
            wrong = sum(differing(starts, protocol) for protocol in protocols)
            count = len(starts) * len(protocols)
            print(f"{parity} on {form}: {wrong} of {count} windows differ")
            name = f"{parity} on {form}: windows that differ"
            figures.append(Figure(figure=name, value=wrong, unit="windows", at_most=0, n=count))
    return figures


def apart(data: Path) -> list[Figure]:
    """Windows of EPIC-KITCHENS-55 that are not the published ones, on RULSTM's CSVs."""
    folder = data / FORMS["epic-kitchens-55"][1]
    rulstm_csv = read_annotations("epic-kitchens-55", folder)
    official = read_annotations("epic-kitchens-55-official", folder)
    own = protocol_for("epic-kitchens-55")
    figures = []
    for split, segments in rulstm_csv.splits.items():
        theirs = official.splits[split]
        start_of = dict(zip(theirs.uid.tolist(), theirs.start_s.tolist(), strict=True))
        wanted = [avt(start_of[uid], own) for uid in segments.uid.tolist()]
        for parity in ("exact", "avt"):
            found = sample_windows(segments.start_s, replace(own, parity=parity))
            frames = [
                f if k else None for f, k in zip(found.frames.tolist(), found.kept, strict=True)
            ]
            wrong = sum(one != other for one, other in zip(frames, wanted, strict=True))
            name = f"{parity} on RULSTM's CSV, {split}: windows that are not AVT's"
            figures.append(Figure(figure=name, value=wrong, unit="windows", n=len(segments)))
        steps = Protocol(gap_s=0.25, num_frames=14, rate=4.0)
        one, other = (
            sample_windows(segments.start_s, replace(steps, parity=parity)).frames
            for parity in ("exact", "rulstm")
        )
        name = f"RULSTM's windows, {split}: those that exact arithmetic makes another"
        wrong = int((one != other).any(axis=1).sum())
        figures.append(Figure(figure=name, value=wrong, unit="windows", n=len(segments)))
    for figure in figures:
        print(f"{figure.figure}: {figure.value:.0f} of {figure.n}")
    return figures


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    arguments = parser.parse_args()
    finish("windows", compare(DATA) + apart(DATA), record=arguments.record)


if __name__ == "__main__":
    main()
