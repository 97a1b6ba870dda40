from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from antcache.annotations import Segments
from antcache.errors import (
    BadConfig,
    DamagedStore,
    MissingFeature,
    MissingKey,
    MissingTarget,
)
from antcache.kernels import DenseTargets, TopKTargets
from antcache.store import SoftTargets, Store
from antcache.student.config import StudentConfig
from antcache.student.training.training_data import TrainingData, load_training_data

MakeStore = Callable[..., Store]


def load(store: Store, **settings: Any) -> TrainingData:
    return load_training_data(store, StudentConfig.of(**settings), torch.device("cpu"))


def without(targets: SoftTargets, uids: list[str]) -> SoftTargets:
    """The targets, without the rows of `uids`."""
    keep = ~np.isin(targets.uid, uids)
    assert targets.logits is not None
    return replace(
        targets, uid=targets.uid[keep], valid=targets.valid[keep], logits=targets.logits[keep]
    )


def test_both_splits_are_read_and_counted(make_store: MakeStore) -> None:
    data = load(make_store())
    assert len(data.train) == 6 * 7
    assert len(data.validation) == 3 * 7
    assert data.validation.labels.uid.tolist() == data.segments.uid.tolist()
    assert {s: {w: len(u) for w, u in d.items()} for s, d in data.dropped.items()} == {
        "train": {"too_early": 6},
        "validation": {"too_early": 3},
    }
    assert data.counts["train"] == {"windows": 42, "padded": 6}
    assert data.train.targets is None


def test_targets_belong_to_their_windows(make_store: MakeStore) -> None:
    data = load(make_store(), targets=("oracle",))
    targets = data.train.targets
    assert targets is not None
    assert data.validation.targets is None
    assert data.counts["targets"] == {"found": 42, "absent": 0, "not_valid": 0}
    assert isinstance(targets.targets, DenseTargets)
    best = targets.targets.logits[0, targets.row].argmax(dim=1)
    assert torch.equal(best, data.train.tensors.action)


def test_absent_targets_are_an_error_unless_masked(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store()
    store.write_targets("fewer", without(store.targets("oracle"), ["t0_1", "t3_4"]))
    with pytest.raises(MissingTarget, match=r"2 of 42 training segments.*none for t0_1, t3_4 "):
        load(store, targets=("fewer",))
    with caplog.at_level(logging.WARNING):
        data = load(store, targets=("fewer",), allow_missing_targets=True)
    assert "2 of 42 training windows have no soft target and are masked" in caplog.text
    assert data.train.targets is not None
    masked = data.train.labels.uid[(data.train.targets.row < 0).numpy()]
    assert sorted(masked.tolist()) == ["t0_1", "t3_4"]


def test_a_training_split_that_is_gone_is_said(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The teacher may have learned from what the student is scored on."""
    store = make_store()
    targets, words = store.targets("oracle"), "not known which segments it learned from"
    for split in ("train", "all"):
        own = {**targets.attributes, "train_split": split}
        store.write_targets(split, replace(targets, attributes=own))
    with caplog.at_level(logging.WARNING, logger="antcache"):
        load(store, targets=("oracle",))
        load(store, targets=("train",))
        assert words not in caplog.text
        load(store, targets=("train", "all"))
    (said,) = (each.getMessage() for each in caplog.records if words in each.getMessage())
    assert said.startswith("targets/all: made by a teacher trained on the split 'all', which the")


def test_the_teachers_own_mask_is_no_error(make_store: MakeStore) -> None:
    store = make_store()
    oracle = store.targets("oracle")
    store.write_targets("masked", replace(oracle, valid=oracle.uid != "t0_1"))
    assert load(store, targets=("masked",)).counts["targets"] == {
        "found": 41,
        "absent": 0,
        "not_valid": 1,
    }


def test_targets_of_no_training_segment_are_refused(make_store: MakeStore) -> None:
    store = make_store()
    oracle = store.targets("oracle")
    store.write_targets("none", replace(oracle, valid=np.zeros(len(oracle), dtype=bool)))
    with pytest.raises(MissingTarget, match="no training segment has a soft target"):
        load(store, targets=("none",), allow_missing_targets=True)


def test_targets_for_another_taxonomy_are_refused(make_store: MakeStore) -> None:
    store = make_store()
    oracle = store.targets("oracle")
    about = {**oracle.attributes, "taxonomy": "0" * 32}  # as a store might have it by other means
    store.backend.publish("targets/other", oracle.arrays(), about)
    words = rf"targets/other: soft targets for other classes than the store's: .*found '{'0' * 32}"
    with pytest.raises(DamagedStore, match=words):
        load(store, targets=("other",))


def test_targets_over_other_classes_are_refused(make_store: MakeStore) -> None:
    store = make_store()
    oracle = store.targets("oracle")
    assert oracle.logits is not None
    sparse = oracle.top_k(2)
    assert sparse.index is not None
    others = {
        "narrow": replace(oracle, logits=oracle.logits[:, :4]),
        "high": replace(sparse, index=sparse.index + 1),
    }
    for name, other in others.items():
        with pytest.raises(BadConfig, match=rf"targets/{name}: .*expected (6|0 to 5)"):
            store.write_targets(name, other)
        store.backend.publish(f"targets/{name}", other.arrays(), other.attributes)
        with pytest.raises(DamagedStore, match=rf"targets/{name}: .*expected (6|0 to 5)"):
            load(store, targets=(name,))
    with pytest.raises(MissingKey, match="nobody"):
        load(store, targets=("nobody",))


def test_a_tail_of_dense_targets_is_refused(make_store: MakeStore) -> None:
    store = make_store()
    with pytest.raises(BadConfig, match=r"targets/oracle: tail has no effect on dense .*: `top_k`"):
        load(store, targets=("oracle",), tail=True)
    store.write_targets("cut", store.targets("oracle").top_k(2))
    for settings in ({"targets": ("oracle",), "top_k": 2}, {"targets": ("cut",)}):
        taught = load(store, **settings, tail=True).train.targets
        assert taught is not None
        assert isinstance(taught.targets, TopKTargets)
        assert taught.targets.tail is not None


def test_classes_of_several_teachers_are_counted_together(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Their two best: the same everywhere, never the same, or the same in some segments."""
    store = make_store()
    oracle = store.targets("oracle")
    assert oracle.logits is not None
    ids = np.arange(6, dtype=np.float32)
    first = np.tile(ids, (len(oracle), 1))  # its best are 5 and 4
    apart, mixed = first[:, ::-1].copy(), first.copy()  # 0 and 1
    mixed[::2] = apart[::2]
    for name, logits in {"first": first, "same": first, "apart": apart, "mixed": mixed}.items():
        store.write_targets(name, replace(oracle, logits=logits))
    expected = {
        "first,same": "= 6 in the paper's convention (mean over the 2 classes in the union",
        "first,apart": "= 12 in the paper's convention (mean over the 4 classes in the union",
        "first,mixed": "no one number in the paper's convention (mean over the 2 to 4 classes",
    }
    for targets, said in expected.items():
        caplog.clear()
        with caplog.at_level(logging.INFO):
            load(store, targets=tuple(targets.split(",")), top_k=2)
        assert said in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):  # one KL for each teacher, over its own classes
        load(store, targets=("first", "apart"), top_k=2, target_weights="attention")
    assert "= 6 in the paper's convention (mean over the teacher's 2 best classes)" in caplog.text


def test_missing_features_are_refused_unless_allowed(make_store: MakeStore) -> None:
    store = make_store()
    store.remove("features/rgb/t2")
    with pytest.raises(MissingFeature, match=r"7 of 48 segments .*t2 \(7\).*`allow_missing`"):
        load(store)
    data = load(store, allow_missing=True)
    assert len(data.dropped["train"]["no_features"]) == 7
    for video in store.videos("rgb"):
        store.remove(f"features/rgb/{video}")
    with pytest.raises(BadConfig, match=r"no segment has a window.*no_features 42"):
        load(store, allow_missing=True)


def test_the_stream_must_be_clear(make_store: MakeStore) -> None:
    store = make_store()
    store.create_stream("flow", dim=3, dtype="float16", fps=4, source="x", config={})
    with pytest.raises(BadConfig, match=r"which stream.*flow, rgb"):
        load(store)
    assert load(store, stream=("rgb",)).streams[0].name == "rgb"
    with pytest.raises(MissingKey, match="obj"):
        load(store, stream=("obj",))


def test_a_split_that_is_not_there(make_store: MakeStore) -> None:
    with pytest.raises(MissingKey, match="test"):
        load(make_store(), validation_split="test")


def test_a_parity_on_another_form_is_said(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    window = {"gap_s": 0.25, "num_frames": 3, "rate": 4.0, "parity": "rulstm"}
    with caplog.at_level(logging.WARNING, logger="antcache"):
        load(make_store("whole"), **window)
    assert "parity" not in caplog.text

    def later(segments: Segments) -> Segments:
        return replace(segments, start_s=segments.start_s + 0.01)

    with caplog.at_level(logging.WARNING, logger="antcache"):
        load(make_store("stamps", relabel=later), **window)
    assert caplog.text.count("parity rulstm is meant for RULSTM's CSVs") == 1
    assert "train: parity" in caplog.text
