"""What the doctor says of soft targets, and of annotations beside a store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toy_store import ANNOTATIONS, TAXONOMY, TRAIN, VALIDATION, MakeStore, kinds, only, soft_targets

from antcache.doctor.examination import DoctorConfig, examine
from antcache.errors import FingerprintMismatch, MissingKey
from antcache.store import SoftTargets, Store


def test_segments_without_soft_targets(make: MakeStore) -> None:
    """Absent ones are missing where they are trained on; what is not valid is masked: a note."""
    store = make()
    valid = np.ones(20, bool)
    valid[[1, 2, 10]] = False  # the last one is too early anyway
    store.write_targets("gappy", soft_targets(TRAIN, valid=valid))
    part = np.r_[0:3, 10:20]
    store.write_targets("part", soft_targets(TRAIN[part]))
    both = soft_targets(VALIDATION[:5])
    store.write_targets("elsewhere", both)
    store.write_targets("mute", soft_targets(TRAIN, valid=np.zeros(20, bool)))

    def found(name: str, **settings: Any) -> list[tuple[str, bool, str]]:
        report = examine(store, DoctorConfig(targets=(name,), **settings))
        return [(f.kind, f.missing, f.where) for f in report.findings]

    assert found("oracle") == []
    assert found("gappy") == [("no_valid_target", False, "targets/gappy, train")]
    assert found("part") == [("no_target", True, "targets/part, train")]
    assert found("mute") == [("no_valid_target", True, "targets/mute, train")]
    assert found("elsewhere") == [
        ("no_target", True, "targets/elsewhere, train"),
        ("no_target", False, "targets/elsewhere, validation"),
    ]
    assert found("elsewhere", splits=("validation",)) == [
        ("no_target", False, "targets/elsewhere, validation")
    ]
    assert found("part", train_split="validation") == [
        ("no_target", True, "targets/part, validation"),
        ("no_target", False, "targets/part, train"),
    ]
    report = examine(store, DoctorConfig(targets=("part",)))
    assert "7 of 18 segments" in report.findings[0].text
    assert "tv1_3, tv1_4, tv1_5, tv1_6, tv1_7, and 2 more" in report.findings[0].text


def careless(store: Store, name: str, targets: SoftTargets) -> None:
    """Soft targets as a tool that checks nothing might write them."""
    store.backend.publish(f"targets/{name}", targets.arrays(), targets.attributes)


def test_soft_targets_of_other_classes(make: MakeStore) -> None:
    store = make()
    careless(store, "wide", soft_targets(TRAIN, logits=np.zeros((20, 3), np.float32)))
    finding = only(examine(store), "targets_of_other_classes")
    assert finding.text.endswith("another number of classes: expected 2, found 3")
    store = make()
    best = soft_targets(TRAIN, logits=np.eye(20, 4, 3, dtype=np.float32)).top_k(1)
    careless(store, "sparse", best)
    finding = only(examine(store), "targets_of_other_classes")
    assert finding.text.endswith("classes that there are not: expected 0 to 1, found 0 to 3")
    store = make()
    taxonomy = replace(TAXONOMY, verbs=("take", "throw"))
    report = examine(store, annotations=replace(ANNOTATIONS, taxonomy=taxonomy))
    assert sorted(kinds(report)) == ["other_taxonomy", "targets_of_other_classes"]


def test_a_training_split_that_is_gone(make: MakeStore) -> None:
    """A note; imported predictions name none, and what they name may be anything."""
    store = make()
    attributes = soft_targets(TRAIN).attributes
    for name, split in (("known", "validation"), ("odd", ["all"]), ("whole", "all")):
        own = {**attributes, "train_split": split}
        store.write_targets(name, soft_targets(TRAIN, attributes=own))
    finding = only(examine(store), "unknown_training_split")
    assert (finding.missing, finding.where) == (False, "targets/whole")
    assert "trained on the split 'all', which the store does not have" in finding.text
    assert examine(store).ok


@pytest.mark.parametrize("kind", ["zarr", "hdf5"])
def test_annotations_instead_of_labels(make: MakeStore, kind: str) -> None:
    store = make(kind, labels=False)
    with pytest.raises(MissingKey, match="no labels"):
        examine(store)
    report = examine(store, annotations=ANNOTATIONS)
    assert report.findings == ()
    assert report.labels == "a test"
    assert report.windows == examine(make(kind)).windows
    with pytest.raises(FingerprintMismatch, match="another dataset"):
        examine(make(kind), annotations=replace(ANNOTATIONS, name="other"))
