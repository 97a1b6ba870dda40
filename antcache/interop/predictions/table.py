"""Predictions gathered into one row per labelled segment: matched by uid, checked, averaged.

Promise: a uid is matched as it is written, or else by its value as an integer where that can mean
one segment only. Values that are not finite, logits for another number of classes and mixtures of
predictions with and without features are errors that name the entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadPredictions
from antcache.interop.predictions.files import Prediction
from antcache.store.soft_targets import SoftTargets

SHOWN = 5
"""Uids that a message names."""


class PredictionTable:
    """Rows of soft targets that predictions are added to.

    Args:
        uids: of all labelled segments; one that is in two splits has one row.
        classes: C.
        allow_unknown: count predictions for other segments, instead of refusing them.
        allow_nan: take logits that are NaN throughout for no prediction.
        features: keep features where predictions have them.
    """

    def __init__(
        self,
        uids: NDArray[np.str_],
        classes: int,
        *,
        allow_unknown: bool = False,
        allow_nan: bool = False,
        features: bool = True,
    ) -> None:
        self._row = {uid: row for row, uid in enumerate(dict.fromkeys(uids.tolist()))}
        self._logits = np.full((len(self._row), classes), np.nan, dtype=np.float32)
        self._feature: NDArray[np.float32] | None = None
        self._allow_unknown, self._allow_nan = allow_unknown, allow_nan
        self._features = features
        self._count = np.zeros(len(self._row), dtype=np.int64)
        self._num_features = np.zeros(2, dtype=np.int64)  # predictions without and with one
        self._sums: dict[tuple[int, str], NDArray[np.float64]] = {}
        self._file = -1
        self._last_file = np.full(len(self._row), -1, dtype=np.int64)
        self._several_files = np.zeros(len(self._row), dtype=bool)
        self._spelling: dict[int, str] = {}
        self._of_number: dict[int, list[str]] = {}
        for uid in self._row:
            if (number := _number(uid)) is not None:
                self._of_number.setdefault(number, []).append(uid)
        self.by_number: dict[str, str] = {}
        self.unknown: dict[str, str] = {}
        self.num_unknown = 0
        self.without = 0

    def __len__(self) -> int:
        return len(self._row)

    def has(self, uid: str) -> bool:
        """Whether the labelled segment `uid` has a prediction."""
        return bool(self._count[self._row[uid]])

    def averaged(self) -> dict[str, int]:
        """How many segments have several predictions, and the most that one has."""
        return {"segments": int((self._count > 1).sum()), "most": int(self._count.max(initial=0))}

    def in_several_files(self) -> int:
        """How many segments have predictions from more than one file."""
        return int(self._several_files.sum())

    def next_file(self) -> None:
        """What is added from now on is from another file."""
        self._file += 1

    def add(self, prediction: Prediction) -> None:
        """Add one prediction, which may be several rows: one per history.

        Raises:
            BadPredictions: it does not fit.
        """
        row = self._find(prediction.uid, prediction.where)
        if row is None:
            self.unknown.setdefault(prediction.uid, prediction.where)
            self.num_unknown += 1
            return
        if prediction.logits is None:
            self.without += 1
            return
        where, width = prediction.where, self._logits.shape[1]
        logits = _histories(prediction.logits, width, where, "logits", "actions of the store")
        feature = prediction.feature if self._features else None
        with np.errstate(over="ignore"):  # what float32 can't hold is found to be infinite
            logits = logits.astype(np.float32)
        empty = np.isnan(logits).all(axis=1)
        if self._allow_nan and empty.any():
            if feature is not None and feature.ndim == 2 and len(feature) == len(logits):
                feature = feature[~empty]
            logits = logits[~empty]
            if not len(logits):
                self.without += 1
                return
        _require_finite(logits, where, "logits", all_nan=bool(empty.all()))
        before = int(self._count[row])
        self._average(self._logits, row, "logits", before, logits)
        self._num_features[int(feature is not None)] += 1
        if feature is not None:
            self._add_feature(row, before, feature, len(logits), where)
        self._count[row] += len(logits)
        self._several_files[row] |= self._last_file[row] not in (-1, self._file)
        self._last_file[row] = self._file

    def check(self, store: object) -> None:
        """What only shows when all files are read.

        Raises:
            BadPredictions: there are unknown segments and that is not allowed, nothing fits, or
                only some predictions have features.
        """
        names = ", ".join(list(self.unknown)[:SHOWN])
        more = ", ..." if len(self.unknown) > SHOWN else ""
        if self.num_unknown and not self._allow_unknown:
            raise BadPredictions(
                f"{self.num_unknown} predictions for segments that the store does not have",
                where=next(iter(self.unknown.values())),
                expected=f"uids of {store}, such as {next(iter(self._row), 'none')}",
                found=f"{names}{more}",
                hint="--allow-unknown passes over them",
            )
        if not self._count.any():
            raise BadPredictions(
                "no segment of the store has a prediction", where=store, found=f"{names}{more}"
            )
        lacking, having = self._num_features.tolist()
        if lacking and having:
            raise BadPredictions(
                f"{having} predictions have features, {lacking} have none",
                where=store,
                hint="--no-features imports the logits alone",
            )

    def targets(self, attributes: dict[str, Any]) -> SoftTargets:
        """Dense targets of all segments, in the order of the labels."""
        return SoftTargets(
            uid=np.array(list(self._row), dtype=np.str_),
            valid=self._count > 0,
            logits=self._logits,
            feature=self._feature,
            attributes=attributes,
        )

    def _find(self, uid: str, where: str) -> int | None:
        """Row of the segment that a file calls `uid`, or None."""
        row = self._row.get(uid)
        number = _number(uid)
        if row is None and number in self._of_number:
            alike = self._of_number[number]
            if len(alike) > 1:
                raise BadPredictions(
                    "the uid can mean several segments", where=where, found=", ".join(alike[:SHOWN])
                )
            row = self._row[alike[0]]
            self.by_number[uid] = alike[0]
        if row is not None and self._spelling.setdefault(row, uid) != uid:
            raise BadPredictions(
                "one segment under two uids",
                where=where,
                found=f"{self._spelling[row]} and {uid}",
                hint="write both files with the same form of uids",
            )
        return row

    def _add_feature(
        self, row: int, before: int, values: NDArray[Any], num_histories: int, where: str
    ) -> None:
        if self._feature is None:
            single = values.ndim < 2 or 1 in values.shape
            width = values.size if single else values.shape[-1]
            self._feature = np.full((len(self), width), np.nan, dtype=np.float32)
        width = self._feature.shape[1]
        feature = _histories(values, width, where, "features", "features of the first prediction")
        with np.errstate(over="ignore"):
            feature = feature.astype(np.float32)
        _require_finite(feature, where, "features")
        if len(feature) != num_histories:
            feature = np.repeat(feature.mean(axis=0, keepdims=True), num_histories, axis=0)
        self._average(self._feature, row, "feature", before, feature)

    def _average(
        self, table: NDArray[np.float32], row: int, name: str, before: int, new: NDArray[np.float32]
    ) -> None:
        """Make `table[row]` the mean of the `before` rows that it stands for and of `new`."""
        if not before and len(new) == 1:
            table[row] = new[0]
            return
        start = np.zeros(table.shape[1]) if not before else table[row].astype(np.float64)
        total = self._sums.setdefault((row, name), start)
        total += new.sum(axis=0, dtype=np.float64)
        table[row] = total / (before + len(new))


def _number(uid: str) -> int | None:
    """The value of a uid that is written in decimal digits."""
    return int(uid) if uid.isascii() and uid.isdecimal() and len(uid) <= 18 else None


def _histories(values: NDArray[Any], width: int, where: str, what: str, whose: str) -> NDArray[Any]:
    """`values` as (histories, width); (width,), (1, width) and (width, 1) are one history."""
    if values.size == width and width in values.shape:
        return values.reshape(1, width)
    if values.ndim == 2 and len(values) and values.shape[1] == width:
        return values
    raise BadPredictions(
        f"{what} of another number", where=where, expected=f"{width}, {whose}", found=values.shape
    )


def _require_finite(
    values: NDArray[np.float32], where: str, what: str, *, all_nan: bool = False
) -> None:
    if np.isfinite(values).all():
        return
    first = int(np.flatnonzero(~np.isfinite(values).all(axis=0))[0])
    raise BadPredictions(
        f"{what} that are not finite",
        where=where,
        found="NaN throughout" if all_nan else f"{values[:, first].tolist()} at {first}",
        hint="--allow-nan takes it for no prediction" if all_nan else "",
    )
