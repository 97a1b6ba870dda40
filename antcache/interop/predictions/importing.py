"""A teacher's predictions made by others, into the store as soft targets.

Promise: every prediction finds its segment by uid or is counted as unknown; a segment without one
is marked so (`valid` false, NaN logits), and nothing is made up for it. Several predictions for one
segment (histories of several annotators, several files) are averaged as logits, and counted. The
attributes name each file with its hash, and say `unknown` for what files do not tell. Nothing is
written unless all files are as they should be.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache import __version__
from antcache.annotations.protocols import Anchor
from antcache.checks import at_least, check_type, one_of
from antcache.errors import AlreadyExists, BadConfig, MissingKey
from antcache.files import REPLACE_HINT
from antcache.interop.predictions.files import file_hash, open_predictions
from antcache.interop.predictions.table import PredictionTable
from antcache.progress import Progress, silent
from antcache.store.format import check_name
from antcache.store.soft_targets import SoftTargets
from antcache.store.store import Store

log = logging.getLogger(__name__)

HISTORIES = ("unknown", "complete", "observed", "gappy")
UNKNOWN = "unknown"
SHOWN = 5
"""Uids that a message names."""
REPORT_EVERY = 1000
"""Predictions between two reports of progress."""


@dataclass(frozen=True, kw_only=True)
class PredictionsConfig:
    """How files of predictions become soft targets."""

    name: str
    """Name of the soft targets in the store."""
    top_k: int | None = None
    """Keep the k best classes only; None keeps all logits."""
    history: str = UNKNOWN
    """Which earlier segments the teacher was told about, as far as is known."""
    anchor: float = 0.0
    """What its gap was counted back from, see `Protocol.anchor`: files do not tell."""
    allow_unknown: bool = False
    """Pass over predictions for segments that the store does not have, instead of refusing them."""
    allow_nan: bool = False
    """Take logits that are NaN throughout for `no prediction`, instead of refusing them."""
    features: bool = True
    """Keep the features of the teacher's last layer (`LM_feat`) where the files have them."""
    overwrite: bool = False
    """Replace soft targets of this name."""
    dry_run: bool = False
    """Read and check everything, and write nothing."""

    def __post_init__(self) -> None:
        check_name(self.name, "set of soft targets")
        one_of("history", self.history, HISTORIES)
        check_type("anchor", self.anchor, Anchor)


@dataclass(frozen=True, kw_only=True)
class PredictionsReport:
    """What was imported, JSON-ready by `to_dict`.

    Attributes:
        name: of the soft targets.
        files: file, form, blake2b and number of predictions of each.
        splits: split -> segments, predicted, missing.
        missing: split -> the first uids without a prediction.
        averaged: segments with several predictions, and the most that one has.
        in_several_files: segments with predictions from more than one file.
        by_number: uids that were matched by their value as integers only (`12` for `0012`).
        unknown: predictions for segments that the store does not have.
        unknown_uids: the first of their uids.
        without: entries that say themselves that there is no prediction.
        feature: width E of the features, or None.
        attributes: of the soft targets.
        written: false for a dry run.
    """

    name: str
    files: list[dict[str, Any]]
    splits: dict[str, dict[str, int]]
    missing: dict[str, list[str]]
    averaged: dict[str, int]
    in_several_files: int
    by_number: int
    unknown: int
    unknown_uids: list[str]
    without: int
    feature: int | None
    attributes: dict[str, Any]
    written: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def import_predictions(
    store: Store, paths: Sequence[Path], config: PredictionsConfig, *, progress: Progress = silent
) -> PredictionsReport:
    """Soft targets `config.name` from files of predictions, one row per labelled segment.

    Args:
        store: whose labels, of all splits, say which segments and classes there are.
        paths: pickles, files of torch, `.npz` or parquet; see `prediction_files`.
        config: what to make of them.
        progress: called with bytes and predictions read.

    Raises:
        MissingKey: the store has no labels.
        AlreadyExists: it has soft targets of this name and `overwrite` is false.
        NotFound, RefusedPickle, MissingExtra: see `open_predictions`.
        BadPredictions: a file is no file of predictions, or does not fit the store.
        BadConfig: `top_k` is out of range, or no file is given.
    """
    classes = len(store.taxonomy.actions)
    _check(store, paths, config, classes)
    segments = {split: store.labels(split) for split in store.splits()}
    labels = {split: own.uid for split, own in segments.items()}
    uids = np.concatenate(list(labels.values()))
    table = PredictionTable(
        uids,
        classes,
        allow_unknown=config.allow_unknown,
        allow_nan=config.allow_nan,
        features=config.features,
    )
    files = [_add_file(table, path, progress) for path in paths]
    table.check(store.path)
    attributes = {
        "kind": "imported",
        "sources": files,  # `files` is what Zarr units call the hashes of their own
        "history": config.history,
        "gap_s": None,
        **({"anchor": config.anchor} if config.anchor else {}),
        "folds": UNKNOWN,
        "averaged": table.averaged()["segments"],
        "taxonomy": store.taxonomy.fingerprint,
        "form": "dense",
        "antcache": __version__,
    }
    moment = np.concatenate([own.moments() for own in segments.values()])
    targets = replace(table.targets(attributes), moment=moment)
    if config.top_k is not None:
        targets = targets.top_k(config.top_k)
    report = _report(config, files, table, labels, targets)
    if not config.dry_run:
        store.write_targets(config.name, targets, overwrite=config.overwrite)
    return report


def _add_file(table: PredictionTable, path: Path, progress: Progress) -> dict[str, Any]:
    """Add a file to the table; its name, form, hash and number of predictions."""
    found = open_predictions(path, progress)
    table.next_file()
    number, label = 0, f"{path.name}: predictions"
    for number, prediction in enumerate(found.predictions, start=1):
        table.add(prediction)
        if not number % REPORT_EVERY:
            progress(label, number, max(number, len(table)))
    progress(label, number, max(number, 1))
    log.info("%s: %s, %d predictions", path, found.form, number)
    return {
        "file": path.name,
        "form": found.form,
        "blake2b": file_hash(path),
        "predictions": number,
    }


def _report(
    config: PredictionsConfig,
    files: list[dict[str, Any]],
    table: PredictionTable,
    labels: Mapping[str, NDArray[np.str_]],
    targets: SoftTargets,
) -> PredictionsReport:
    """The counts, which are logged as well."""
    splits, missing = {}, {}
    for split, uids in labels.items():
        without = [uid for uid in uids.tolist() if not table.has(uid)]
        predicted = len(uids) - len(without)
        splits[split] = {"segments": len(uids), "predicted": predicted, "missing": len(without)}
        missing[split] = without[:SHOWN]
        log.info("%s: %d of %d segments have a prediction", split, predicted, len(uids))
    unknown = list(table.unknown)
    if unknown:
        log.warning("%d predictions for unknown segments passed over", table.num_unknown)
    return PredictionsReport(
        name=config.name,
        files=files,
        splits=splits,
        missing=missing,
        averaged=table.averaged(),
        in_several_files=table.in_several_files(),
        by_number=len(table.by_number),
        unknown=table.num_unknown,
        unknown_uids=unknown[:SHOWN],
        without=table.without,
        feature=None if targets.feature is None else targets.feature.shape[1],
        attributes=targets.attributes,
        written=not config.dry_run,
    )


def _check(store: Store, paths: Sequence[Path], config: PredictionsConfig, classes: int) -> None:
    """What can be refused before anything is read."""
    if not paths:
        raise BadConfig("no file of predictions is given")
    if config.top_k is not None:
        at_least("top-k", config.top_k, 1, classes)
    if not store.splits():
        raise MissingKey(
            "the store has no labels", where=store.path, hint="antcache annotations import"
        )
    if config.name in store.target_names() and not config.overwrite:
        raise AlreadyExists(
            "soft targets of this name are already there",
            where=f"{store.path}: targets/{config.name}",
            hint=REPLACE_HINT,
        )
