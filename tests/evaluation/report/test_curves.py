"""Curves of training in a report: what they are of, how they are drawn, damaged records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from compared_kitchen import QUICK, A, B, Kitchen, Reader, one_hot, run

from antcache.errors import BadCheckpoint
from antcache.evaluation.comparing.compare import compare
from antcache.evaluation.report import render, write_report
from antcache.evaluation.report.curves import Panel, draw, mean_curve, panels_of, read_history


def test_runs_of_one_epoch_are_drawn_as_strokes(kitchen: Kitchen):
    a = run(kitchen.store, kitchen.folder / "short-a", one_hot(*A), [3.0])
    b = run(kitchen.store, kitchen.folder / "short-b", one_hot(*B), [2.0])
    path = kitchen.folder / "report.html"
    write_report(kitchen.store, [a], [b], path, config=QUICK)
    page = path.read_text("utf-8")
    Reader(page)
    assert "short-a ends at 3 (epoch 1); short-b ends at 2 (epoch 1)." in page
    for side in "ab":
        lines = re.findall(rf'<polyline points="([^"]+)" class="thick {side}"/>', page)
        assert len(lines) == 2  # the loss and the validation metric
        for line in lines:
            (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in line.split())
            assert (x1 - x0, y1 - y0) == (8, 0)
    assert page.count('class="mid soft">1</text>') == 2  # the epoch, once below each panel


def test_the_numbers_of_a_curve_stand_beside_it():
    """Those of the values end before the grid begins, those of the epochs stand below it."""
    panel = Panel(title="loss", a=[{1: 3.0, 2: 1.0}], b=[{1: 2.0, 2: 0.5}], names=("p", "q"))
    drawn = draw(panel, "curve")
    grid = re.findall(r'points="([\d.]+),([\d.]+) [\d.]+,[\d.]+" class="grid"', drawn)
    left, lowest = float(grid[0][0]), max(float(y) for _, y in grid)
    texts = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="(end|mid) soft">', drawn)
    values = [float(x) for x, _, style in texts if style == "end"]
    epochs = [float(y) for _, y, style in texts if style == "mid"]
    assert len(values) == len(grid) >= 3
    assert 0 < max(values) < left
    assert len(epochs) == 3  # 1, 2 and the word
    assert min(epochs) > lowest


def test_a_damaged_line_of_metrics_is_named(kitchen: Kitchen):
    file = Path(kitchen.a[0]) / "metrics.jsonl"
    for bad in ("{", "[]", "{}", '{"epoch": null}'):
        file.write_text('{"epoch": 1}\n' + bad)
        with pytest.raises(BadCheckpoint, match="line 2"):
            read_history(kitchen.a[0])
    file.write_text('{"epoch": 1, "loss": NaN, "validation": {"action/top1": null}}\n')
    found = compare(kitchen.store, kitchen.a, kitchen.b, config=QUICK)
    Reader(render(found, kitchen.store.taxonomy, QUICK))  # nothing to draw is no error
    file.write_text("")
    assert read_history(kitchen.a[0]) is None
    file.unlink()
    assert read_history(kitchen.a[0]) is None


def test_a_history_is_found_by_the_folder_or_by_its_predictions(kitchen: Kitchen):
    whole = read_history(kitchen.a[0])
    assert whole is not None
    assert [record["epoch"] for record in whole] == [1, 2, 3]
    assert read_history(f"{kitchen.a[0]}/predictions.safetensors") == whole
    assert read_history(f"{kitchen.a[0]}/held_out.safetensors") == whole
    assert read_history(f"{kitchen.a[0]}/other.safetensors") is None


def test_curves_are_of_what_was_recorded():
    """Recall over all classes only where the many-shot list is absent; losses if they differ."""
    scores = {"action/top1": 1.0, "action/recall@5": 2.0}
    plain = [{"epoch": 1, "loss": 3.0, "action_loss": 3.0, "validation": scores}]
    shot = [{**plain[0], "validation": {**scores, "action/many_shot_recall@5": 4.0}}]
    more = [{**plain[0], "loss": 5.0}]

    def titles(*a: list[dict[str, Any]]) -> list[str]:
        return [panel.title for panel in panels_of(a, [], ("a", "b"))]

    assert [t for t in titles(plain) if "recall" in t] == [
        "action class-mean recall@5, validation, %"
    ]
    assert [t for t in titles(shot) if "recall" in t] == [
        "action many-shot class-mean recall@5, validation, %"
    ]
    assert len(titles(more)) == len(titles(plain)) + 1
    assert panels_of([], [], ("a", "b")) == []
    assert mean_curve([]) == {}
    assert mean_curve([{1: 1.0, 2: 2.0}, {2: 4.0, 3: 5.0}]) == {2: 3.0}
