"""The report of a comparison: its numbers, its words, its edge cases."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compared_kitchen import QUICK, A, B, Kitchen, Reader, one_hot, save

from antcache.annotations import Segments, Taxonomy
from antcache.errors import BadConfig, NotFound
from antcache.evaluation import Predictions
from antcache.evaluation.comparing.compare import compare
from antcache.evaluation.report import Films, ReportLayout, render, write_report
from antcache.evaluation.report.svg import ticks
from antcache.evaluation.report.timeline import timeline
from antcache.evaluation.report.words import clock, signed
from antcache.store import Store


def rows_of(page: str, attribute: str) -> dict[str, list[str]]:
    """Cells of the table rows that have an attribute, as text, by its value."""
    found = re.findall(rf'<tr {attribute}="([^"]+)">(.*?)</tr>', page, re.DOTALL)
    return {
        name: [
            re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.S)
        ]
        for name, row in found
    }


def number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


def test_every_metric_is_the_comparisons(kitchen: Kitchen):
    path = kitchen.folder / "report.html"
    found = write_report(
        kitchen.store, kitchen.a, kitchen.b, path, teacher="targets/count", config=QUICK
    )
    rows = rows_of(path.read_text("utf-8"), "data-metric")
    assert found.same == {"action/class_mean_top1_all_classes": "action/class_mean_top1"}
    said = "The same here, whatever is predicted: action class-mean top-1 over all classes and"
    assert said in path.read_text("utf-8")
    assert list(rows) == [name for name in found.metrics if name not in found.same]
    for name in rows:
        change = found.metrics[name]
        a, b, gain, interval, _, judged, p_value, deviation = rows[name]
        d = change.difference
        assert (number(a), number(b)) == (round(change.mean_a, 2), round(change.mean_b, 2))
        assert number(gain) == round(d.value, 2)
        assert [number(end) for end in interval.split(" to ")] == [
            round(d.low, 2),
            round(d.high, 2),
        ]
        assert judged == ("higher" if d.low > 0 else "lower" if d.high < 0 else "not clear")
        assert p_value == d.p_text.replace("<=", "≤")
        assert number(deviation) == round(change.deviation, 2)


def test_where_the_features_come_from(kitchen: Kitchen):
    path = kitchen.folder / "report.html"
    for name, source in (("rgb", "a <backbone>"), ("simulated", "no video was looked at")):
        kitchen.store.create_stream(name, dim=4, dtype="float16", fps=2, source=source, config={})
    write_report(kitchen.store, kitchen.a, kitchen.b, path, config=QUICK)
    said = "Features in the store: rgb (a &lt;backbone&gt;), simulated (no video was looked at)."
    assert said in path.read_text("utf-8")


def test_figures_by_hand(kitchen: Kitchen):
    found = compare(
        kitchen.store, kitchen.a[:1], kitchen.b[:1], teacher="targets/count", config=QUICK
    )
    page = render(found, kitchen.store.taxonomy, QUICK, ReportLayout(title="Mine & yours"))
    assert rows_of(page, "data-metric")["action/top1"][:3] == ["37.50", "62.50", "+25.00"]
    buckets = rows_of(page, "data-bucket")
    assert buckets["1/right"] == ["2 (25.0 %)", "0 (0.0 %)", "1 (12.5 %)", "1 (12.5 %)"]
    assert buckets["1/wrong"] == ["1 (12.5 %)", "1 (12.5 %)", "1 (12.5 %)", "0 (0.0 %)"]
    assert buckets["1/absent"] == ["0 (0.0 %)", "0 (0.0 %)", "0 (0.0 %)", "1 (12.5 %)"]
    # Class 4 is ranked by B alone; of five classes all others are among the five best.
    assert rows_of(page, "data-kind")["action"] == ["1", "0", "4"]
    for text in (
        "<title>Mine &amp; yours</title>",
        "By the best guess, b0 fixes 3 of 8 segments and breaks 1; the teacher is right about 2 of "
        "the fixed and 0 of the broken.",
        "There is one run of each",
        "The action top-1 of b0 is not clearly different: 62.50 % against 37.50 % of a0, +25.00 "
        "points (95 % interval",
        "Gained: 1 action classes",
        "a0 ends at 1 (epoch 3); b0 ends at 0.5 (epoch 3).",
        "targets/count (1)",
        "v&lt;1&gt;",
    ):
        assert text in page, text


def test_the_timeline_says_who_was_right(kitchen: Kitchen):
    found = compare(kitchen.store, kitchen.a, kitchen.b, teacher="targets/count", config=QUICK)
    page = render(found, kitchen.store.taxonomy, QUICK, ReportLayout(video="y"))
    for text in (
        "1: take knife; teacher wrong, but the truth is among the 5 best, "
        "a wrong, but the truth is among the 5 best, b right.",
        "2: take pan; teacher no prediction, a wrong, b wrong, but the truth is among the 5 best.",
        "The teacher is right about 0 of 2 segments, 1 with the 5 best guesses.",
        "b is right about 1 of 2 segments, 2 with the 5 best guesses.",
    ):
        assert text in page, text
    with pytest.raises(BadConfig, match=r"v<1>, w, x, y, found nowhere"):
        render(found, kitchen.store.taxonomy, QUICK, ReportLayout(video="nowhere"))


def test_the_page_is_whole_and_loads_nothing(kitchen: Kitchen):
    found = compare(kitchen.store, kitchen.a, kitchen.b, teacher="targets/count", config=QUICK)
    page = render(found, kitchen.store.taxonomy, QUICK)
    reader = Reader(page)
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    assert "://" not in page
    assert not re.search(r"@import|url\(|\bon[a-z]+=|fetch|eval|import\(", page)
    # One script, and the page's policy lets no other run.
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'"
    )
    assert page.startswith("<!doctype html>")
    assert len(set(reader.ids)) == len(reader.ids)
    assert set(reader.refers) <= set(reader.ids)
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert reader.counts["caption"] == reader.counts["table"] >= 6
    assert page.count('role="img"') == page.count("<desc ") >= 4
    assert reader.counts["h1"] == 1
    for text in (
        "prefers-color-scheme: dark",
        "@media print",
        'name="viewport"',
        '<html lang="en"',
    ):
        assert text in page


def test_files_of_predictions_alone(kitchen: Kitchen):
    """No run folder, no teacher, one seed, and a video without any prediction."""
    a = save(kitchen.store, kitchen.folder / "a", one_hot(*A[:6]), range(6))
    b = save(kitchen.store, kitchen.folder / "b", one_hot(*B[:6]), range(6))
    found = compare(kitchen.store, [a], [b], config=QUICK)
    page = render(found, kitchen.store.taxonomy, QUICK, ReportLayout(video="y"))
    Reader(page)
    assert f"no metrics.jsonl beside the predictions: {a}, {b}." in page
    assert "a no prediction, b no prediction" in page
    assert "No teacher was given" in page
    assert "teacher right" not in page
    assert list(rows_of(page, "data-bucket")) == ["1/absent", "5/absent"]
    assert f"Segments without a prediction count as wrong: {a} (2), {b} (2)." in page


def test_equal_systems_have_no_bars(kitchen: Kitchen):
    found = compare(kitchen.store, kitchen.a[:1], kitchen.a[1:], config=QUICK)
    page = render(found, kitchen.store.taxonomy, QUICK)
    Reader(page)
    assert rows_of(page, "data-kind")["action"] == ["0", "0", "5"]
    assert page.count("<p>None.</p>") == 2


def test_as_few_as_one_class_can_be_asked_for(kitchen: Kitchen):
    found = compare(kitchen.store, kitchen.b, kitchen.a, config=QUICK)
    assert len(found.gained()) + len(found.lost()) > 0
    page = render(found, kitchen.store.taxonomy, QUICK, ReportLayout(classes=1))
    drawings = re.findall(
        r'<svg [^>]*aria-labelledby="classes-(?:gained|lost)-t.*?</svg>', page, re.S
    )
    assert drawings
    assert [drawing.count('class="track"') for drawing in drawings] == [1] * len(drawings)
    with pytest.raises(BadConfig, match=r"impossible classes: expected from 1 .*found 0"):
        ReportLayout(classes=0)


def test_the_video_that_is_shown_is_the_most_typical(kitchen: Kitchen):
    """Gains: v +50, w -50, x and y +50 points, of all 25; the first of the closest is v."""
    found = compare(kitchen.store, kitchen.a, kitchen.b, config=QUICK)
    shown = timeline(found, kitchen.store.taxonomy)
    assert shown.video == "v<1>"
    assert "gain in top-1 (+50.00 points)" in shown.chosen
    assert shown.chosen.endswith("whole split (+25.00).")
    assert [event.start_s for event in shown.events] == [2, 3]
    assert timeline(found, kitchen.store.taxonomy, "w").chosen == ""


def test_examples_have_strips_and_those_without_say_why(kitchen: Kitchen):
    """Of each segment once; what is not there is said in its card and above all of them."""
    asked: dict[str, list[float]] = {}

    def pictures(video: str, times_s: Sequence[float]) -> list[str | None]:
        if video == "x":
            raise NotFound("no <such> video", where="videos")
        asked[video] = list(times_s)
        return [f"data:image/jpeg;base64,{video.encode().hex()}{time:.3f}" for time in times_s]

    films = Films(pictures)
    path = kitchen.folder / "report.html"
    found = write_report(
        kitchen.store,
        kitchen.a[:1],
        kitchen.b[:1],
        path,
        teacher="targets/count",
        config=replace(QUICK, ks=(1, 2)),
        films=films,
    )
    page = path.read_text("utf-8")
    Reader(page)
    cells = [cell for buckets in found.buckets for cell in buckets.cells]
    shown = [e for cell in cells for e in cell.examples]
    assert len({e.uid for e in shown}) < len(shown)  # fixed by the best guess and by the 2 best
    assert page.count('href="#e-') == len(shown) - len({e.uid for e in shown})
    first = {e.uid: e for e in shown}
    with_pictures = [e for e in first.values() if e.video != "x"]
    assert page.count('<div class="film">') == len(with_pictures)
    assert page.count("no-film") == len(first) - len(with_pictures) > 0
    assert page.count("no &lt;such&gt; video") == 1 + len(first) - len(with_pictures)
    assert list(films.notes) == ["x"]
    gap_s = kitchen.store.protocol.gap_s
    for e in with_pictures:
        assert max(t for t in asked[e.video] if t < e.start_s) == pytest.approx(e.start_s - gap_s)
        assert f'{e.video.encode().hex()}{e.start_s - gap_s:.3f}"' in page
    assert "the last of each strip is" in page
    plain = render(found, kitchen.store.taxonomy, QUICK)
    assert "<img" not in plain
    assert "the last of each strip" not in plain


def test_rare_and_frequent_classes_videos_and_calibration(kitchen: Kitchen):
    """Without a training split the counts are those of the split itself, and the page says so."""
    found = compare(kitchen.store, kitchen.a[:1], kitchen.b[:1], config=QUICK)
    page = render(found, kitchen.store.taxonomy, QUICK)
    assert "for the store has no training split" in page
    rows = rows_of(page, "data-frequency")
    assert list(rows) == ["1"]  # 1 to 4 segments: all five classes
    assert rows["1"][:2] == ["5", "8"]
    assert number(rows["1"][4]) == round(found.metrics["action/recall@5"].difference.value, 2)
    assert "b0 is above a0 in 3 of 4 videos, below in 1 and equal in 0" in page
    assert found.calibration[1] is not None
    rows = rows_of(page, "data-calibration")
    assert rows["top-1, %"] == ["37.50", "62.50"]
    assert rows["expected calibration error, %"][1] == f"{found.calibration[1].ece:.2f}"
    assert rows["negative log-likelihood, nats"][0] == "none"  # A gives class 4 probability 0


def test_every_class_is_a_short_row_of_its_own(tmp_path: Path):
    """EPIC-KITCHENS-100 has thousands of classes: each may take some hundred bytes."""
    page, _ = page_of(tmp_path, classes=400)
    small, _ = page_of(tmp_path, classes=200)
    assert len(rows_of_class(page)) == 400 + 400 + 1  # actions, nouns, the verb
    assert (len(page) - len(small)) / 400 < 130  # of an action's row and a noun's


def rows_of_class(page: str) -> list[str]:
    tables = re.findall(r'<table class="sortable by-class">.*?</table>', page, re.DOTALL)
    return [row for table in tables for row in re.findall(r"<tr><th scope=\"row\">", table)]


def page_of(folder: Path, *, classes: int) -> tuple[str, float]:
    """The page of two random systems on one segment of each of many classes, and its seconds."""
    ids = np.arange(classes)
    taxonomy = Taxonomy(
        dataset=f"of-{classes}",
        verbs=("take",),
        nouns=tuple(f"thing {i}" for i in ids),
        actions=tuple(f"take thing {i}" for i in ids),
        action_verbs=(0,) * classes,
        action_nouns=tuple(ids.tolist()),
    )
    segments = Segments.of(
        uid=[f"s{i}" for i in ids],
        video=[f"v{i % 50}" for i in ids],
        start_s=ids + 5.0,
        stop_s=ids + 6.0,
        verb=np.zeros(classes, np.int64),
        noun=ids,
        action=ids,
    )
    store = Store.create(folder / f"large-{classes}")
    store.write_labels("validation", segments, taxonomy, source="test")
    systems = []
    for seed in (1, 2):
        scores = np.random.default_rng(seed).normal(size=(classes, classes)).astype(np.float32)
        systems.append(str(folder / f"{classes}-{seed}"))
        Predictions(
            uid=segments.uid, scores=scores, split="validation", taxonomy=taxonomy.fingerprint
        ).save(Path(systems[-1]))
    found = compare(store, systems[:1], systems[1:], config=QUICK)
    begin = time.monotonic()
    return render(found, taxonomy, QUICK), time.monotonic() - begin


def test_numbers_as_text():
    assert [signed(v) for v in (1.234, -0.001, 0.0)] == ["+1.23", "0.00", "0.00"]
    assert signed(-1.25, 1) == "\N{MINUS SIGN}1.2"
    assert [clock(s) for s in (0, 59.96, 125.5, 3600)] == ["0:00.0", "1:00.0", "2:05.5", "60:00.0"]
    assert ticks(0, 1) == [0, 0.25, 0.5, 0.75, 1]
    assert ticks(-3, 17) == [0, 5, 10, 15]
    assert ticks(2.31, 2.33) == pytest.approx([2.31, 2.315, 2.32, 2.325, 2.33])
