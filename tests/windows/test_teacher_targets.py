from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from antcache.errors import BadConfig, MissingTarget
from antcache.kernels import DenseTargets, TopKTargets
from antcache.store import SoftTargets
from antcache.windows.target_rows import TargetRows
from antcache.windows.teacher_targets import TeacherTargets, stored_shares


def soft(**changes: Any) -> SoftTargets:
    fields: dict[str, Any] = {
        "uid": np.array(["a", "b", "c"]),
        "valid": np.ones(3, dtype=bool),
        "logits": np.arange(12, dtype=np.float32).reshape(3, 4),
    }
    return SoftTargets(**{**fields, **changes})


def uids(*names: str) -> np.ndarray:
    return np.array(names)


def select(sets: dict[str, SoftTargets], uid: np.ndarray, **options: Any) -> TeacherTargets:
    """What the sets say about the segments `uid`."""
    where = TargetRows.of([(targets.uid, targets.valid) for targets in sets.values()], uid)
    return TeacherTargets.of(sets, where, **options)


def test_absent_and_not_valid_targets_are_told_apart() -> None:
    one = (uids("a", "b", "c"), np.array([True, False, True]))
    two = (uids("c", "a", "b"), np.array([True, True, True]))
    found = TargetRows.of([one, two], uids("c", "b", "x", "a"))
    assert found.rows.tolist() == [[2, 1, -1, 0], [0, 2, -1, 1]]
    assert found.has.tolist() == [True, False, False, True]
    assert found.absent.tolist() == [False, False, True, False]
    assert found.counts() == {"found": 2, "absent": 1, "not_valid": 1}
    fewer = TargetRows.of([one, (uids("a"), np.array([True]))], uids("b", "a"))
    assert fewer.counts() == {"found": 1, "absent": 1, "not_valid": 0}


def test_selected_targets_are_those_of_the_windows() -> None:
    teachers = select({"t": soft()}, uids("c", "x", "a"))
    targets = teachers.targets
    assert isinstance(targets, DenseTargets)
    assert targets.num_rows == 2
    assert teachers.row.tolist() == [0, -1, 1]
    assert targets.logits.tolist() == [[[8, 9, 10, 11], [0, 1, 2, 3]]]
    assert teachers.num_teachers == 1
    assert teachers.feature is None
    assert teachers.share is None


def test_each_teacher_by_itself() -> None:
    (only,) = select({"t": soft()}, uids("a")).each_teacher()
    assert isinstance(only, DenseTargets)
    assert only.logits.tolist() == [[[0, 1, 2, 3]]]
    both = select({"t": soft(), "u": soft(logits=np.ones((3, 4), np.float32))}, uids("b"))
    first, second = both.each_teacher()
    assert isinstance(first, DenseTargets)
    assert isinstance(second, DenseTargets)
    assert first.logits.tolist() == [[[4, 5, 6, 7]]]
    assert second.logits.tolist() == [[[1, 1, 1, 1]]]


def test_selected_targets_can_be_cut() -> None:
    targets = select({"t": soft()}, uids("b"), top_k=2).targets
    assert isinstance(targets, TopKTargets)
    assert targets.index.tolist() == [[[3, 2]]]
    assert targets.logit.tolist() == [[[7, 6]]]
    assert targets.tail is None
    tailed = select({"t": soft()}, uids("b"), top_k=2, tail=True).targets
    assert isinstance(tailed, TopKTargets)
    assert tailed.tail is not None
    outside = torch.tensor([4.0, 5, 6, 7]).softmax(0)[:2].sum().log()
    torch.testing.assert_close(tailed.tail[0, 0], outside)


def test_stored_top_k_is_taken_as_it_is() -> None:
    stored = {"t": soft().top_k(2)}
    assert isinstance(select(stored, uids("a"), top_k=2).targets, TopKTargets)
    with pytest.raises(BadConfig, match=r"targets/t: .*another k: expected 3, found 2"):
        select(stored, uids("a"), top_k=3)


def test_a_window_needs_every_teacher() -> None:
    second = soft(uid=np.array(["c", "a", "b"]), valid=np.array([True, True, False]))
    teachers = select({"one": soft(), "two": second}, uids("a", "b", "c"), share=[1, 3])
    assert teachers.row.tolist() == [0, -1, 1]  # b is not valid in the second
    assert isinstance(teachers.targets, DenseTargets)
    assert teachers.targets.logits[:, 1].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert teachers.num_teachers == 2
    assert teachers.share is not None
    assert teachers.share.tolist() == [1, 3]
    alone = [each for each in teachers.each_teacher() if isinstance(each, DenseTargets)]
    assert [targets.logits[0, 0].tolist() for targets in alone] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    shared = teachers.targets.logits.untyped_storage().data_ptr()
    assert all(targets.logits.untyped_storage().data_ptr() == shared for targets in alone)


def test_forms_that_do_not_fit_are_refused_by_name() -> None:
    forms = {"dense": soft(), "cut": soft().top_k(2)}
    with pytest.raises(BadConfig, match="dense: dense, cut: top 2"):
        select(forms, uids("a"))
    targets = select(forms, uids("a", "b"), top_k=2).targets
    assert isinstance(targets, TopKTargets)
    assert targets.index.shape == (2, 2, 2)


def test_features_lie_side_by_side_and_missing_ones_are_marked() -> None:
    feature = np.ones((3, 2), dtype=np.float32)
    gone = np.full((3, 1), 2, dtype=np.float32)
    gone[1] = np.nan
    both = {"one": soft(feature=feature), "two": soft(feature=gone)}
    teachers = select(both, uids("a", "b"), features=True)
    assert teachers.dims == (2, 1)
    assert teachers.feature is not None
    assert teachers.has_feature is not None
    assert teachers.feature.tolist() == [[1, 1, 2], [0, 0, 0]]
    assert teachers.has_feature.tolist() == [True, False]
    moved = teachers.to(torch.device("meta"))
    assert moved.feature is not None
    assert moved.targets.logits.device == moved.feature.device == torch.device("meta")
    assert moved.num_bytes == teachers.num_bytes == 2 * 2 * 4 * 4 + 2 * 8 + 2 * 3 * 4 + 2
    with pytest.raises(MissingTarget, match=r"targets/two: .*no feature.*leave `align` out"):
        select({"one": both["one"], "two": soft()}, uids("a"), features=True)


def test_temperatures_divide_the_logits() -> None:
    teachers = select(
        {"one": soft(), "two": soft()}, uids("b"), share=[1, 1], temperatures=[1.0, 2.0]
    )
    assert isinstance(teachers.targets, DenseTargets)
    assert teachers.targets.logits[:, 0].tolist() == [[4, 5, 6, 7], [2, 2.5, 3, 3.5]]
    stored = {"one": soft().top_k(2), "two": soft().top_k(2)}
    cut = select(stored, uids("b"), share=[1, 1], temperatures=[1.0, 2.0]).targets
    assert isinstance(cut, TopKTargets)
    assert cut.logit[:, 0].tolist() == [[7, 6], [3.5, 3]]
    with pytest.raises(BadConfig, match="stored tail"):
        select(stored, uids("b"), tail=True, share=[1, 1], temperatures=[1.0, 2.0])


def test_a_stored_mixture_is_taken_by_name_of_its_members() -> None:
    about = {"members": ["two", "one"], "weights": [0.7, 0.3], "temperatures": [2.0, 1.0]}
    joint = soft(attributes={**about, "mix": "weights"})
    assert stored_shares("joint", joint, ("one", "two")) == ([0.3, 0.7], [1.0, 2.0])
    with pytest.raises(BadConfig, match=r"targets/joint: .*joint targets of one, three"):
        stored_shares("joint", joint, ("one", "three"))
    with pytest.raises(BadConfig, match="no ensemble"):
        stored_shares("joint", soft(), ("one", "two"))
    attention = replace(joint, attributes={**about, "mix": "attention"})
    with pytest.raises(BadConfig, match=r"no fixed weights.*`targets` joint"):
        stored_shares("joint", attention, ("one", "two"))
