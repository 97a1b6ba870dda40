"""A teacher listens live: as it does to a file, whatever is dropped, and anew where nothing joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predict_ears import Listening, heard
from test_watching import unhurried

from antcache.predict.live.watching import Watch


@pytest.mark.parametrize("weights", [None, (0.0, 1.0)])
def test_answers_are_those_about_the_same_file(listening: Listening, weights: Any) -> None:
    """Of both with the weights that were learned, and of the teacher alone."""
    asked_of = heard(listening, weights or (0.5, 0.5))
    path = listening.kitchen.folder / "odd.mkv"
    found = unhurried(Watch(asked_of, path, top=4))
    assert len(found) >= 48
    asked = asked_of.predict(path, at=[answer.anticipation.time_s for answer in found])
    assert len(asked.times_s) == len(found)
    for answer, scores in zip(found, asked.scores, strict=True):
        assert len(answer.anticipation.top) == 4
        for each in answer.anticipation.top:
            assert each.probability == pytest.approx(np.exp(scores[each.action]), abs=1e-5)
    last = found[-1].history
    assert last is not None
    assert (last.ticks, last.silent, last.begun_anew, last.why) == (19, 0, 0, "")
