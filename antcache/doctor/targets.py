"""Whether every segment that is trained on has a soft target.

Promise: what training would refuse is missing: soft targets of other classes, and segments of the
training split that the soft targets do not contain. What training would mask is a note, and so is a
training split of the teacher that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Protocol, Segments, Taxonomy, sample_windows
from antcache.doctor.report import Finding, TargetReport
from antcache.errors import DamagedStore, MissingKey
from antcache.store import Store
from antcache.store.backend import Attributes
from antcache.store.format import LazyArray
from antcache.store.meaning import Senseless, check_targets
from antcache.store.soft_targets import training_unknown
from antcache.text import listed
from antcache.windows.target_rows import TargetRows


def examine_targets(
    store: Store,
    name: str,
    taxonomy: Taxonomy,
    splits: Mapping[str, Segments],
    protocol: Protocol,
    train_split: str,
) -> tuple[list[TargetReport], list[Finding]]:
    """Coverage of each split by the soft targets `name`, and what is wrong with it.

    Raises:
        MissingKey: the store has none of this name.
    """
    where = f"targets/{name}"
    if name not in store.target_names():
        raise MissingKey(
            f"the store has no set of soft targets {name!r}",
            where=store.path,
            found=", ".join(store.target_names()) or "none",
        )
    try:
        arrays, attributes = store.backend.open(where)
        check_targets(
            arrays,
            attributes,
            taxonomy=None,
            where=store.backend.where(where),
            exact=False,
        )
        uid, valid = (np.asarray(arrays[array][...]) for array in ("uid", "valid"))
        wrong = _wrong_classes(arrays, attributes, taxonomy)
    except DamagedStore as error:
        return [], [Finding(kind="damaged", missing=True, where=where, text=str(error))]
    findings = []
    if wrong:
        finding = Finding(kind="targets_of_other_classes", missing=True, where=where, text=wrong)
        findings.append(finding)
    if unknown := training_unknown(attributes, {*store.splits(), *splits}):
        findings.append(
            Finding(kind="unknown_training_split", missing=False, where=where, text=unknown)
        )
    reports = []
    for split, segments in splits.items():
        kept = sample_windows(segments.start_s, protocol, segments.stop_s).kept
        wanted = segments.uid[kept]
        rows = TargetRows.of([(uid, valid)], wanted)
        report = TargetReport(name=name, split=split, segments=len(wanted), **rows.counts())
        reports.append(report)
        findings += _check(report, wanted[rows.absent], split == train_split)
    return reports, findings


def _wrong_classes(
    arrays: Mapping[str, LazyArray], attributes: Attributes, taxonomy: Taxonomy
) -> str:
    """In what the classes of sound soft targets differ from the taxonomy's; empty if in nothing."""
    try:
        check_targets(arrays, attributes, taxonomy, where="", exact=False)
    except Senseless as error:
        return error.said
    return ""


def _check(report: TargetReport, absent: NDArray[np.str_], trained: bool) -> Iterator[Finding]:
    """What one split lacks."""
    where = f"targets/{report.name}, {report.split}"
    if not trained and report.absent == report.segments:
        return  # soft targets are for training; a split that they leave out altogether is no fault
    if report.absent:
        yield Finding(
            kind="no_target",
            missing=trained,
            where=where,
            text=f"{report.absent} of {report.segments} segments are not in the soft targets: "
            + listed(absent.tolist()),
        )
    if report.not_valid:
        none = trained and not report.found
        yield Finding(
            kind="no_valid_target",
            missing=none,
            where=where,
            text=f"{report.not_valid} of {report.segments} segments have no valid soft target; "
            + ("training would have none at all" if none else "training masks them"),
        )
