"""What a store holds, by video: the segments of all splits, and which streams have which video.

Promise: a split, a stream or the classes that can't be read are named among the problems, and the
rest is shown. What is listed is compact: columns over the videos, a few hundred bytes of each.
Letters: N segments, by video and then by start; V videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache import __version__
from antcache.annotations import Protocol, Segments, Taxonomy, protocol_for
from antcache.annotations.protocols import before
from antcache.errors import DamagedStore
from antcache.store import Store
from antcache.text import plain

BARS = 40
"""Places of a video's bar in the list; each has the class that is under way there."""
NOTHING = -1
"""Stands for no class and no segment."""


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The segments of a store.

    Attributes:
        store: where they are.
        taxonomy: their classes; None without labels.
        protocol: the windows that they are anticipated from.
        splits: names of the splits.
        videos: names of the V videos, of labels and of features, sorted.
        bounds: (V + 1,) the segments of video v are `bounds[v]` to `bounds[v + 1]`.
        uid: (N,) str.
        split: (N,) position among `splits`.
        start_s: (N,) seconds.
        stop_s: (N,) seconds.
        action: (N,) ids.
        streams: names of the streams, each with the videos that it has, (V,) bool.
        problems: what can't be read, and why, each in a line.
    """

    store: Store
    taxonomy: Taxonomy | None
    protocol: Protocol
    splits: tuple[str, ...]
    videos: tuple[str, ...]
    bounds: NDArray[np.int64]
    uid: NDArray[np.str_]
    split: NDArray[np.int64]
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    action: NDArray[np.int64]
    streams: dict[str, NDArray[np.bool_]]
    problems: tuple[str, ...]

    @classmethod
    def of(cls, store: Store) -> Catalog:
        """Read the labels of a store, and the lists of its streams.

        Raises:
            Unreachable, ReadFailed: the store can't be read now.
        """
        problems: list[str] = []
        taxonomy, protocol, parts = _labels(store, problems)
        there: dict[str, set[str]] = {}
        for stream in store.streams():
            try:
                there[stream] = set(store.videos(stream))
            except DamagedStore as error:
                problems.append(str(error))
        found = {video for each in parts.values() for video in each.videos}
        videos = tuple(sorted(found.union(*there.values())))
        columns = _columns(list(parts.values()), videos)
        return cls(
            store=store,
            taxonomy=taxonomy,
            protocol=protocol,
            splits=tuple(parts),
            videos=videos,
            streams={
                name: np.array([video in own for video in videos], dtype=np.bool_)
                for name, own in there.items()
            },
            problems=tuple(problems),
            **columns,
        )

    def __len__(self) -> int:
        return len(self.uid)

    def rows(self, video: int) -> slice:
        """Which segments are those of a video."""
        return slice(int(self.bounds[video]), int(self.bounds[video + 1]))

    @property
    def video(self) -> NDArray[np.int64]:
        """Position (N,) of each segment's video."""
        return np.repeat(np.arange(len(self.videos)), np.diff(self.bounds))

    @property
    def keys(self) -> NDArray[np.int64]:
        """By what classes (C,) are coloured: their verb, or themselves where they have none."""
        if self.taxonomy is None:
            return np.empty(0, np.int64)
        own = self.taxonomy.verb_of
        return own if self.taxonomy.paired else np.arange(len(own))

    def seconds(self, video: int) -> float:
        """When the last segment of a video stops; 0 without any."""
        return float(self.stop_s[self.rows(video)].max(initial=0.0))

    def listing(self, systems: Sequence[dict[str, Any]], *, pictures: bool) -> dict[str, Any]:
        """The list of videos, JSON-ready.

        Args:
            systems: what has expectations, in the order of their numbers.
            pictures: whether there are videos to show pictures of.
        """
        counts = np.zeros((len(self.splits), len(self.videos)), np.int64)
        np.add.at(counts, (self.split, self.video), 1)
        window = self.protocol
        return {
            "store": plain(self.store.path),
            "dataset": plain(self.taxonomy.dataset if self.taxonomy else self.store.dataset or ""),
            "version": __version__,
            "window": f"{window.num_frames} frames at {window.rate:g} per second, "
            f"{window.gap_s:g} s before {before(window.anchor)}",
            "splits": [plain(name) for name in self.splits],
            "videos": [plain(name) for name in self.videos],
            "segments": counts.tolist(),
            "seconds": [round(self.seconds(v), 1) for v in range(len(self.videos))],
            "streams": {
                plain(k): "".join(map(str, v.astype(int))) for k, v in self.streams.items()
            },
            "bars": [self._bar(v).tolist() for v in range(len(self.videos))],
            "systems": list(systems),
            "pictures": pictures,
            "problems": [plain(text) for text in self.problems],
        }

    def _bar(self, video: int) -> NDArray[np.int64]:
        """What is under way at `BARS` times of a video, as keys; `NOTHING` between segments."""
        rows = self.rows(video)
        start, stop = self.start_s[rows], self.stop_s[rows]
        if not len(start):
            return np.empty(0, np.int64)
        times = (np.arange(BARS) + 0.5) / BARS * self.seconds(video)
        under_way = (start <= times[:, None]) & (times[:, None] < stop)
        last = len(start) - 1 - under_way[:, ::-1].argmax(axis=1)  # that began last
        keys = self.keys[self.action[rows][last]]
        return np.where(under_way.any(axis=1), keys, NOTHING)

    def classes(self) -> dict[str, Any]:
        """Names of the classes, and which stand in which video how often, JSON-ready."""
        names = [] if self.taxonomy is None else self.taxonomy.actions
        found = [
            np.unique(self.action[self.rows(v)], return_counts=True)
            for v in range(len(self.videos))
        ]
        return {
            "actions": [plain(name) for name in names],
            "keys": self.keys.tolist(),
            "here": [ids.tolist() for ids, _ in found],
            "counts": [counts.tolist() for _, counts in found],
        }


def _labels(
    store: Store, problems: list[str]
) -> tuple[Taxonomy | None, Protocol, dict[str, Segments]]:
    """Classes, windows, and the segments of each split, as far as they can be read."""
    usual = protocol_for("")
    try:
        splits = store.splits()
        if not splits:
            problems.append("the store has no labels: videos are those of its features")
            return None, usual, {}
        taxonomy, protocol = store.taxonomy, store.protocol
    except DamagedStore as error:
        problems.append(str(error))
        return None, usual, {}
    parts = {}
    for split in splits:
        try:
            parts[split] = store.labels(split)
        except DamagedStore as error:
            problems.append(str(error))
    return taxonomy, protocol, parts


def _columns(parts: list[Segments], videos: tuple[str, ...]) -> dict[str, Any]:
    """The segments of all splits in the catalog's order."""

    def joined(name: str, kind: Any) -> NDArray[Any]:
        columns = [getattr(part, name) for part in parts]
        return np.concatenate(columns) if columns else np.empty(0, kind)

    names = np.array(videos, dtype=np.str_)
    video = np.searchsorted(names, joined("video", "U1")) if len(names) else np.empty(0, np.int64)
    start_s = joined("start_s", np.float64)
    order = np.lexsort((start_s, video))
    split = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return {
        "bounds": np.searchsorted(video[order], np.arange(len(videos) + 1)),
        "uid": joined("uid", "U1")[order],
        "split": split[order].astype(np.int64),
        "start_s": start_s[order],
        "stop_s": joined("stop_s", np.float64)[order],
        "action": joined("action", np.int64)[order],
    }
