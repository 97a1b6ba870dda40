"""The demo's report, part by part, from numbers made up here."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from antcache.annotations import Segments, Taxonomy
from antcache.demo import report
from antcache.demo.report import COLOURS, DemoOutcome, SeedRuns, _curves


def runs(seeds: int, epochs: int) -> SeedRuns:
    """A student whose figures grow, with another value for each seed."""
    figures = np.arange(seeds * epochs, dtype=np.float64).reshape(seeds, epochs)
    return SeedRuns(
        metrics=[],
        curves={"action/top1": figures, "action/recall@5": figures},
        epochs=np.arange(1, epochs + 1),
        loss=-figures,
        scores=np.empty((seeds, 0, 0), np.float32),
    )


def test_every_table_scrolls_by_itself() -> None:
    """Else the whole page would be wider than a phone."""
    page = Path(report.__file__).with_suffix(".html").read_text("utf-8")
    tables = re.findall(r"(\S+)<table", page)
    assert len(tables) == page.count("<table") >= 3
    assert set(tables) <= {'class="wide">'}


def test_every_curve_has_the_colour_of_its_student() -> None:
    """In each of three panels: a faint line for each seed, and a strong one of their mean."""
    none = np.empty(0, np.int64)
    outcome = DemoOutcome(
        taxonomy=Taxonomy(
            dataset="toy",
            verbs=("take",),
            nouns=("cup",),
            actions=("take cup",),
            action_verbs=(0,),
            action_nouns=(0,),
        ),
        segments=Segments.of(
            uid=[], video=[], start_s=[], stop_s=[], verb=none, noun=none, action=none
        ),
        teacher={},
        teacher_scores=np.empty((0, 1), np.float32),
        runs={name: runs(seeds, 4) for name, seeds in zip(COLOURS, (2, 3), strict=True)},
        steps=[],
        settings={},
    )
    strokes = re.findall(r"stroke: (#\w{6});([^\"]*)", _curves(outcome))
    faint = [colour for colour, rest in strokes if "stroke-opacity: 0.3" in rest]
    for (name, colour), seeds in zip(COLOURS.items(), (2, 3), strict=True):
        assert faint.count(colour) == 3 * seeds, name
        strong = sum(own == colour for own, _ in strokes) - faint.count(colour)
        assert strong == 3 + 1, name  # and one in the legend
    assert len(faint) == 3 * (2 + 3)
