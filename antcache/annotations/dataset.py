"""What a reader returns: the classes and the checked segments of every split.

Promise: every segment passed `Segments.check`, no uid occurs twice in the dataset, and what is odd
but real (overlaps, equal starts, duplicates, files passed over) is counted and said, never hidden.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations.protocols import Protocol, protocol_for, sample_windows
from antcache.annotations.segments import Segments
from antcache.annotations.taxonomy import Taxonomy
from antcache.errors import BadAnnotations

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Segments as read, not yet checked.

    Attributes:
        segments: N of them.
        place: where a row comes from, as `file:line`.
    """

    segments: Segments
    place: Callable[[int], str]

    def at(self, rows: NDArray[np.int64]) -> Part:
        """The segments at `rows` (n,), which remember where they come from."""
        return Part(segments=self.segments[rows], place=lambda row: self.place(int(rows[row])))


@dataclass(frozen=True, kw_only=True)
class Oddities:
    """Counts of what published annotations contain although one would not expect it.

    Attributes:
        overlaps: segments that start before an earlier one of their video has stopped.
        equal_starts: segments that start exactly when another one of their video, counted before,
            starts.
        duplicates: segments that equal one counted before in everything but the uid.
    """

    overlaps: int
    equal_starts: int
    duplicates: int


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Annotations that were read and checked.

    Attributes:
        name: the dataset, e.g. `epic-kitchens-55`, whichever form it was read from.
        taxonomy: its classes.
        splits: segments by split name: `train`, `validation`.
        source: form and files, for people.
        warnings: what was passed over or is missing, one line each, with counts.
        protocol: its own windows, where they are not those of `protocol_for`.
        fps: frames per second, where its times were numbers of frames.
    """

    name: str
    taxonomy: Taxonomy
    splits: dict[str, Segments]
    source: str
    warnings: tuple[str, ...] = ()
    protocol: Protocol | None = None
    fps: float | None = None

    @property
    def windows(self) -> Protocol:
        """The windows that its actions are anticipated from."""
        return self.protocol or protocol_for(self.name)

    def summary(self, protocol: Protocol | None = None) -> dict[str, Any]:
        """Counts per split, ready for JSON; windows under `protocol` or the dataset's own."""
        protocol = protocol or self.windows
        train = self.splits.get("train")
        return {
            "dataset": self.name,
            "source": self.source,
            **{f"{kind}s": len(getattr(self.taxonomy, f"{kind}s")) for kind in self.kinds},
            "many_shot_actions": _count(self.taxonomy.many_shot_actions),
            "verb_or_noun_many_shot_actions": _count(self.taxonomy.any_shot_actions),
            "taxonomy": self.taxonomy.fingerprint,
            "protocol": asdict(protocol),
            "splits": {
                name: {
                    "segments": len(segments),
                    "videos": len(segments.videos),
                    **{f"{kind}s": len(np.unique(getattr(segments, kind))) for kind in self.kinds},
                    **_split_summary(segments, None if name == "train" else train, protocol),
                }
                for name, segments in self.splits.items()
            },
            "warnings": list(self.warnings),
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is counted: verbs and nouns, where there are any, and actions."""
        return (*self.taxonomy.kinds[1:], "action")


def _count(ids: Sequence[int] | None) -> int | None:
    return None if ids is None else len(ids)


def _split_summary(
    segments: Segments, train: Segments | None, protocol: Protocol
) -> dict[str, int | None]:
    windows = sample_windows(segments.start_s, protocol, segments.stop_s)
    counts: dict[str, int | None] = {
        "videos_in_train": None,
        "actions_not_in_train": None,
        "segments_not_in_train": None,
        "windows_kept": int(windows.kept.sum()),
        "windows_dropped": int((~windows.kept).sum()),
        "windows_padded": int((windows.padded.any(axis=1) & windows.kept).sum()),
    }
    if train is not None:
        unseen = ~np.isin(segments.action, train.action)
        counts["videos_in_train"] = len(set(segments.videos) & set(train.videos))
        counts["actions_not_in_train"] = len(np.unique(segments.action[unseen]))
        counts["segments_not_in_train"] = int(unseen.sum())
    return {**counts, **asdict(count_oddities(segments))}


def count_oddities(segments: Segments) -> Oddities:
    """Count overlaps, equal starts and duplicates, whatever the order of the segments."""
    if not len(segments):
        return Oddities(overlaps=0, equal_starts=0, duplicates=0)
    _, video = np.unique(segments.video, return_inverse=True)
    columns: list[NDArray[Any]] = [video, segments.start_s, segments.stop_s]
    columns += [segments.verb, segments.noun, segments.action]
    order = np.lexsort(columns[::-1])
    same = np.logical_and.accumulate([_repeats(column[order]) for column in columns], axis=0)
    same_video, same_start, same_all = same[0], same[1], same[-1]
    # The latest stop so far in a video: videos are laid one after the other on a common time axis,
    # so that a running maximum never reaches back into the video before.
    length = float(segments.stop_s.max()) + 1.0
    offset = video[order] * length
    latest = np.maximum.accumulate(segments.stop_s[order] + offset)[:-1] - offset[1:]
    overlaps = same_video[1:] & (segments.start_s[order][1:] < latest - 1e-6)
    return Oddities(
        overlaps=int(overlaps.sum()),
        equal_starts=int(same_start.sum()),
        duplicates=int(same_all.sum()),
    )


def _repeats(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each element equals the one before it (N,)."""
    return np.concatenate([[False], column[1:] == column[:-1]])


def assemble(
    taxonomy: Taxonomy,
    parts: Mapping[str, Part],
    *,
    source: str,
    warnings: Sequence[str] = (),
) -> Dataset:
    """Check the splits against the taxonomy and each other; log the warnings and the oddities.

    Raises:
        BadAnnotations: for the first wrong segment, or a uid that two splits use.
    """
    owner: dict[str, str] = {}
    for line in warnings:
        log.info("%s: %s", taxonomy.dataset, line)
    for split, part in parts.items():
        part.segments.check(taxonomy, part.place)
        for row, uid in enumerate(part.segments.uid.tolist()):
            if uid in owner:
                raise BadAnnotations(
                    f"the uid is also used in {owner[uid]}", where=part.place(row), found=uid
                )
        owner.update(dict.fromkeys(part.segments.uid.tolist(), split))
        log.info("%s: %s: %s", taxonomy.dataset, split, count_oddities(part.segments))
    return Dataset(
        name=taxonomy.dataset,
        taxonomy=taxonomy,
        splits={split: part.segments for split, part in parts.items()},
        source=source,
        warnings=tuple(warnings),
    )
