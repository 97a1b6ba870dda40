"""Predictions on their way to soft targets, without a file: what there is none of is counted 0."""

from __future__ import annotations

import numpy as np
import pytest

from antcache.errors import BadPredictions
from antcache.interop.predictions.files import Prediction
from antcache.interop.predictions.table import PredictionTable


@pytest.mark.parametrize("uids", [[], ["1", "2"]])
def test_nothing_is_counted_as_nothing(uids: list[str]) -> None:
    table = PredictionTable(np.array(uids, dtype=str), 3)
    assert len(table) == len(uids)
    assert table.averaged() == {"segments": 0, "most": 0}
    assert table.in_several_files() == 0
    assert not any(map(table.has, uids))
    with pytest.raises(BadPredictions, match="here: no segment of the store has a prediction"):
        table.check("here")


def test_features_follow_the_rows_that_are_kept() -> None:
    """Of three histories one is NaN throughout: its feature goes with it."""
    logits = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 6.0]])
    feature = np.array([[1.0, 2.0], [50.0, 60.0], [5.0, 8.0]])
    table = PredictionTable(np.array(["1"]), 2, allow_nan=True)
    table.next_file()
    table.add(Prediction(uid="1", where="here", logits=logits, feature=feature))
    targets = table.targets({})
    assert targets.logits is not None
    assert targets.feature is not None
    assert targets.logits.tolist() == [[2, 4]]
    assert targets.feature.tolist() == [[3, 5]]
    assert table.averaged() == {"segments": 1, "most": 2}
    assert table.without == 0


def test_one_feature_stands_for_all_histories() -> None:
    """And several features for one history are averaged."""
    table = PredictionTable(np.array(["1", "2"]), 2)
    table.next_file()
    several = np.array([[1.0, 2.0], [3.0, 6.0]])
    table.add(Prediction(uid="1", where="here", logits=several, feature=np.array([7.0, 8.0])))
    table.add(
        Prediction(uid="2", where="here", logits=several[:1], feature=np.array([[2.0, 3], [4, 7]]))
    )
    targets = table.targets({})
    assert targets.feature is not None
    assert targets.feature.tolist() == [[7, 8], [3, 5]]
