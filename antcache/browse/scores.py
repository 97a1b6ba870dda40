"""Scores of a system, a block of segments at a time: of a run's file, or of a store's soft targets.

Promise: of a file of any size a few megabytes are held at once; what it says is checked as by
`Predictions.load` and `Store.targets`. Letters: n segments that have scores, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadCheckpoint, BadPredictions, NotFound
from antcache.evaluation.metrics import blocks
from antcache.evaluation.predictions import FILE_NAME, FORMAT, PREDICTED, Predictions, moments_in
from antcache.store import Store
from antcache.store.meaning import check_targets
from antcache.store.soft_targets import SoftTargets
from antcache.untrusted import check_fetched, names_array, parse_json

Scores = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FileOfScores:
    """Predictions in a file, whose scores are not read yet.

    Attributes:
        path: the file.
        uid: (n,) str.
        split: which split of the labels they are for.
        taxonomy: fingerprint of their classes.
        num_classes: C.
        moment: (n,) str, see `Predictions`, or None.
    """

    path: Path
    uid: NDArray[np.str_]
    split: str
    taxonomy: str
    num_classes: int
    moment: NDArray[np.str_] | None = None

    @classmethod
    def open(cls, path: Path) -> FileOfScores:
        """Read the header of a file, or of `predictions.safetensors` in a folder.

        Raises:
            NotFound: there is none.
            BadCheckpoint: it is damaged, or something else.
        """
        from safetensors import SafetensorError, safe_open

        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            raise NotFound("no predictions here", where=path, hint=PREDICTED)
        try:
            check_fetched(path)
            with safe_open(path, framework="numpy") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT:
                    raise ValueError(f"the format {about.get('format', 'none')!r:.100}")
                scores = file.get_slice("scores")
                shape, kind = tuple(scores.get_shape()), scores.get_dtype()
            uid = names_array(parse_json(about["uid"]))
            if kind != "F32" or len(shape) != 2 or shape[:1] != uid.shape:
                raise ValueError(f"scores {kind} {shape} of {len(uid)} segments")
            if len(np.unique(uid)) < len(uid):
                raise ValueError("a segment is predicted twice")
            split, taxonomy, moment = about["split"], about["taxonomy"], moments_in(about)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise _unreadable(path, error) from error
        if moment is not None and moment.shape != uid.shape:
            raise BadCheckpoint("not one moment per uid", where=path)
        return cls(
            path=path,
            uid=uid,
            split=split,
            taxonomy=taxonomy,
            num_classes=shape[1],
            moment=moment,
        )

    def blocks(self) -> Iterator[tuple[slice, Scores]]:
        """Which rows, and their scores (b, C).

        The file is mapped anew for each block, so that what was read is no memory of ours.

        Raises:
            BadCheckpoint: it can't be read, or was replaced meanwhile.
            BadPredictions: scores are not finite.
        """
        from safetensors import SafetensorError, safe_open

        was = self._state()
        for rows in blocks(len(self.uid)):
            try:
                with safe_open(self.path, framework="numpy") as file:
                    scores = np.array(file.get_slice("scores")[rows.start : rows.stop])
            except (SafetensorError, OSError, ValueError) as error:
                raise _unreadable(self.path, error) from error
            if self._state() != was:
                raise BadCheckpoint("the file has changed while it was read", where=self.path)
            part = Predictions(
                uid=self.uid[rows], scores=scores, split=self.split, taxonomy=self.taxonomy
            )
            part.check_finite(self.path)
            yield rows, scores

    def _state(self) -> tuple[int, int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return found.st_ino, found.st_size, found.st_mtime_ns


def _unreadable(path: Path, error: Exception) -> BadCheckpoint:
    said = " ".join(str(error).split()) or type(error).__name__
    return BadCheckpoint("the file of predictions can't be read", where=path, found=said)


@dataclass(frozen=True, kw_only=True)
class StoredTargets:
    """Soft targets of a store, whose logits are not read yet.

    Attributes:
        name: of the soft targets.
        uid: (n,) str, those that are valid.
        rows: (n,) where they stand.
        arrays: as the store has them.
    """

    name: str
    uid: NDArray[np.str_]
    rows: NDArray[np.int64]
    arrays: dict[str, Any]

    @classmethod
    def open(cls, store: Store, name: str) -> StoredTargets:
        """Look at the soft targets `name`.

        Raises:
            DamagedStore: they are not as they were written, or do not fit the store's classes.
        """
        key = f"targets/{name}"
        arrays, attributes = store.backend.open(key)
        where = store.backend.where(key)
        check_targets(arrays, attributes, store.taxonomy, where, exact=False)
        uid, valid = (np.asarray(arrays[array][...]) for array in ("uid", "valid"))
        rows = np.flatnonzero(valid)
        return cls(name=name, uid=uid[rows], rows=rows, arrays=dict(arrays))

    def blocks(self) -> Iterator[tuple[slice, SoftTargets]]:
        """Which of the n, and their soft targets.

        Raises:
            DamagedStore: they are not as they were written.
            BadPredictions: a logit is not a number.
        """
        values = [name for name in ("logits", "index", "logit", "tail") if name in self.arrays]
        for stored in blocks(self.arrays["uid"].shape[0]):
            first, last = np.searchsorted(self.rows, (stored.start, stored.stop))
            if first == last:
                continue
            part = slice(int(first), int(last))
            rows = self.rows[part]
            low, high = int(rows[0]), int(rows[-1]) + 1
            held: dict[str, Any] = {
                name: np.array(self.arrays[name][low:high])[rows - low] for name in values
            }
            for name in values:
                release = getattr(self.arrays[name], "release", None)
                if release is not None:  # a map that stays would count as our memory
                    release()
                # The maximum is NaN or +inf if any is; -inf alone stands for what is not ranked.
                if name in ("logits", "logit") and not np.isfinite(held[name].max(axis=1)).all():
                    where = f"targets/{self.name}"
                    raise BadPredictions("soft targets that are not finite", where=where)
            yield part, SoftTargets(uid=self.uid[part], valid=np.ones(len(rows), bool), **held)
