"""All that the page may ask for, as JSON documents by name.

Promise: every text in them is plain (`antcache.text`), and they are ASCII; what can't be read says
why in place of what it would be. The list is made at once, all else when it is asked for; what
takes long is made once.

| name | holds |
|---|---|
| `list` | videos, splits, streams, systems |
| `classes` | names of the classes, and in which video they are |
| `notes` | what the doctor says |
| `video-V` | labels of a video, and where it has rows |
| `figures-K` | how right a system is, by video |
| `guesses-K-V` | what a system expected in a video |
| `strip-V` | pictures of a video |
| `seen-V-S` | pictures of what is seen before a segment, and of its start |
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from antcache.browse.catalog import Catalog
from antcache.browse.guesses import Guesses, guesses_of_file, guesses_of_targets, rows_of
from antcache.browse.notes import notes_of
from antcache.browse.pictures import Pictures
from antcache.browse.rows import rows_of_video
from antcache.browse.scores import FileOfScores, StoredTargets
from antcache.errors import AntcacheError, NotFound
from antcache.store import Store
from antcache.store.location import Location
from antcache.text import plain

STRIP = 24
"""Pictures of a whole video."""
SEEN = 5
"""Of a window, beside that of the start."""
MOST_SEEN = 1000
"""Segments of a video of which there are such; a picture takes 5 kB, a segment's 30."""
NAME = re.compile(r"([a-z]+)((?:-[0-9]{1,9}){0,2})")


class Shelf:
    """The documents of a store.

    Args:
        store: labels, features and soft targets.
        runs: files of predictions, or folders of runs.
        videos: where pictures come from; None: there are none.
        single: whether there are pictures of single segments, too.

    Raises:
        NotFound: there is no such run, or no video.
        BadCheckpoint: a file of predictions can't be read.
        FingerprintMismatch: one is for other classes or segments than the store's.
    """

    def __init__(
        self,
        store: Store,
        *,
        runs: Sequence[Path] = (),
        videos: Location | None = None,
        single: bool = True,
    ) -> None:
        self.catalog = Catalog.of(store)
        self.pictures = Pictures(videos)
        self._single = single
        self.left_out: list[str] = []
        """What is not shown of what was asked for, and why."""
        self._make: list[Callable[[], Guesses]] = []
        self._systems: list[dict[str, Any]] = []
        self._made: dict[str, Any] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        if self.catalog.taxonomy is not None:
            for name in store.target_names():
                self._add("teacher", name, partial(self._of_targets, name))
        for run in runs:
            self._add_run(run)

    def _add(self, kind: str, name: str, make: Callable[[], Guesses], split: str = "") -> None:
        self._systems.append({"kind": kind, "name": plain(name), "split": plain(split)})
        self._make.append(make)

    def _add_run(self, run: Path) -> None:
        scores = FileOfScores.open(run)
        if scores.split not in self.catalog.splits:
            self.left_out.append(
                f"{run} predicts the split {scores.split!r}, of which the store has no labels: "
                "there is nothing to show it beside"
            )
            return
        rows_of(self.catalog, scores)  # what does not fit is said before anything is served
        make = partial(guesses_of_file, self.catalog, scores)
        self._add("run", str(run), make, scores.split)

    def _of_targets(self, name: str) -> Guesses:
        return guesses_of_targets(self.catalog, StoredTargets.open(self.catalog.store, name))

    def document(self, name: str, gone: Callable[[], bool] = lambda: False) -> bytes:
        """A document as JSON; pictures are made no further once whoever asked is `gone`.

        Raises:
            NotFound: there is none of this name.
        """
        match = NAME.fullmatch(name)
        makers: dict[tuple[str, int], Callable[..., Any]] = {
            ("list", 0): self._list,
            ("classes", 0): self.catalog.classes,
            ("notes", 0): lambda: self._once("notes", lambda: notes_of(self.catalog)),
            ("video", 1): self._video,
            ("figures", 1): self._figures,
            ("guesses", 2): self._guesses,
            ("strip", 1): partial(self._strip, gone),
            ("seen", 2): partial(self._seen, gone),
        }
        numbers = [int(n) for n in match[2].split("-")[1:]] if match else []
        maker = makers.get((match[1], len(numbers))) if match else None
        try:
            if maker is None:
                raise IndexError
            found = maker(*numbers)
        except IndexError:
            raise NotFound("no such document", found=f"{name:.40}") from None
        except (AntcacheError, OSError) as error:
            found = {"why": plain(error)}
        return json.dumps(found, separators=(",", ":"), allow_nan=False).encode("ascii")

    def names(self) -> Iterator[str]:
        """Names of all documents, but of those about single segments."""
        yield from ("list", "classes", "notes")
        videos = range(len(self.catalog.videos))
        yield from (f"video-{video}" for video in videos)
        for system in range(len(self._systems)):
            yield f"figures-{system}"
            yield from (f"guesses-{system}-{video}" for video in videos)
        if self.pictures.videos:
            yield from (f"strip-{video}" for video in videos)

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` makes, made once, whoever asks meanwhile."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def _list(self) -> dict[str, Any]:
        found = self.catalog.listing(self._systems, pictures=bool(self.pictures.videos))
        found["problems"] += map(plain, self.left_out)
        return found

    def _system(self, system: int) -> Guesses:
        """The expectations of a system; IndexError if there is none."""
        make = self._make[system]
        found: Guesses = self._once(f"system-{system}", make)
        return found

    def _figures(self, system: int) -> dict[str, Any]:
        return self._system(system).figures(self.catalog)

    def _guesses(self, system: int, video: int) -> dict[str, Any]:
        self._name(video)
        return self._system(system).of(self.catalog.rows(video))

    def _name(self, video: int) -> str:
        return self.catalog.videos[video]

    def _video(self, video: int) -> dict[str, Any]:
        catalog, name = self.catalog, self._name(video)
        rows = catalog.rows(video)
        streams = [rows_of_video(catalog.store, stream, name) for stream in catalog.streams]
        ends = [span[1] for stream in streams for span in stream.get("spans", [])[-1:]]
        return {
            "name": plain(name),
            "seconds": round(max([catalog.seconds(video), *ends]), 2),
            "uid": [plain(uid) for uid in catalog.uid[rows]],
            "split": catalog.split[rows].tolist(),
            "start": np.round(catalog.start_s[rows], 2).tolist(),
            "stop": np.round(catalog.stop_s[rows], 2).tolist(),
            "action": catalog.action[rows].tolist(),
            "streams": streams,
        }

    def _strip_times(self, video: int) -> list[float]:
        end = self._video(video)["seconds"] or 1.0
        return [round(end * (n + 0.5) / STRIP, 2) for n in range(STRIP)]

    def _seen_times(self, video: int) -> list[list[float]]:
        """Times of pictures of each segment: of its window, and of its start."""
        catalog, rows = self.catalog, self.catalog.rows(video)
        window, start = catalog.protocol, catalog.start_s[rows]
        ends = window.reference_s(start, catalog.stop_s[rows]) - window.gap_s
        back = (
            (window.num_frames - 1) / window.rate * np.linspace(1, 0, min(SEEN, window.num_frames))
        )
        return [
            [*sorted({round(float(t), 2) for t in end - back if t >= 0}), round(float(begin), 2)]
            for end, begin in zip(ends, start, strict=True)
        ]

    def _pictures(self, gone: Callable[[], bool], video: int, shown: list[float]) -> dict[str, Any]:
        """Pictures at some times, of a video that is decoded for all that may be asked for."""
        wanted = set(self._strip_times(video))
        if self._single:
            for times in self._seen_times(video)[:MOST_SEEN]:
                wanted.update(times)
        found = self.pictures.of(self.catalog.videos[video], wanted, gone)
        if isinstance(found, str):
            return {"why": found}
        if not found.keys() >= set(shown):
            return {"why": f"the video has more than {MOST_SEEN} segments"}
        return {"seconds": shown, "pictures": [found[time] for time in shown]}

    def _strip(self, gone: Callable[[], bool], video: int) -> dict[str, Any]:
        self._name(video)
        return self._pictures(gone, video, self._strip_times(video))

    def _seen(self, gone: Callable[[], bool], video: int, segment: int) -> dict[str, Any]:
        self._name(video)
        return self._pictures(gone, video, self._seen_times(video)[segment])
