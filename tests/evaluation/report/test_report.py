"""The report of a comparison: its numbers, its words, its edge cases, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from antcache.annotations import Segments, Taxonomy
from antcache.cli.main import Root
from antcache.errors import AlreadyExists, BadCheckpoint, BadConfig, MissingExtra, NotFound
from antcache.evaluation import Predictions
from antcache.evaluation.comparing.compare import CompareConfig, compare
from antcache.evaluation.report import ReportLayout, render, write_report
from antcache.evaluation.report.curves import Panel, draw, mean_curve, panels_of, read_history
from antcache.evaluation.report.svg import ticks
from antcache.evaluation.report.timeline import timeline
from antcache.evaluation.report.words import clock, signed
from antcache.evaluation.sheet import BootstrapConfig
from antcache.store import SoftTargets, Store

QUICK = CompareConfig(over="all", sampling=BootstrapConfig(resamples=40), examples=2)
ROOT = Root(
    name="antcache", table={"report": ("antcache.cli.evaluation.report", "Write a report.")}
)
TRUTH = (0, 0, 2, 3, 0, 1, 1, 4)
A = (0, 1, 2, 0, 1, 1, 0, 0)  # right: 0, 2, 5
B = (0, 0, 1, 0, 0, 1, 1, 0)  # right: 0, 1, 4, 5, 6; fixed 1, 4, 6; broken 2
T = (1, 0, 0, 3, 0, 1, 0)  # of s0 to s6, right: 1, 3, 4, 5; s7 has none


def one_hot(*best: int) -> np.ndarray:
    """Scores (n, 5) whose best class is given; then the others by id."""
    scores = -np.tile(np.arange(5, dtype=np.float32), (len(best), 1))
    scores[np.arange(len(best)), best] = 5.0
    return scores


def save(store: Store, path: Path, scores: np.ndarray, uids: range = range(8)) -> str:
    Predictions(
        uid=np.array([f"s{i}" for i in uids]),
        scores=scores,
        split="validation",
        taxonomy=store.taxonomy.fingerprint,
    ).save(path)
    return str(path)


def run(store: Store, folder: Path, scores: np.ndarray, losses: list[float]) -> str:
    """The folder of a run with metrics of each epoch."""
    folder.mkdir()
    save(store, folder / "predictions.safetensors", scores)
    lines = [
        {"epoch": e, "loss": loss, "action_loss": loss, "validation": {"action/top1": 10.0 * e}}
        for e, loss in enumerate(losses, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


@dataclass(frozen=True)
class Kitchen:
    """A store and two runs of each side in it."""

    store: Store
    a: tuple[str, str]
    b: tuple[str, str]
    folder: Path


@pytest.fixture
def kitchen(tmp_path: Path, taxonomy: Taxonomy) -> Kitchen:
    """Eight segments in four videos, one of them named to be escaped."""
    action = np.array(TRUTH)
    segments = Segments.of(
        uid=[f"s{i}" for i in range(8)],
        video=["v<1>", "v<1>", "w", "w", "x", "x", "y", "y"],
        start_s=np.arange(8) + 2.0,
        stop_s=np.arange(8) + 3.5,
        verb=taxonomy.verb_of[action],
        noun=taxonomy.noun_of[action],
        action=action,
    )
    store = Store.create(tmp_path / "kitchen")
    store.write_labels("validation", segments, taxonomy, source="test")
    targets = SoftTargets(
        uid=np.array([f"s{i}" for i in range(7)]),
        valid=np.ones(7, dtype=bool),
        logits=one_hot(*T),
        attributes={"taxonomy": taxonomy.fingerprint},
    )
    store.write_targets("count", targets)
    a, b = one_hot(*A), one_hot(*B)
    a[:, 4] = -np.inf  # A never ranks class 4, which B gains
    return Kitchen(
        store=store,
        a=(
            run(store, tmp_path / "a0", a, [3.0, 2.0, 1.0]),
            run(store, tmp_path / "a1", a, [3.5, 2.5, 1.5]),
        ),
        b=(
            run(store, tmp_path / "b0", b, [4.0, 2.0, 0.5]),
            run(store, tmp_path / "b1", b, [4.0, 2.0, 0.7]),
        ),
        folder=tmp_path,
    )


class Reader(HTMLParser):
    """Checks that every element is closed, and collects what is needed."""

    VOID = frozenset({"meta", "link", "rect", "polyline", "circle"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.counts: dict[str, int] = {}
        self.links: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key == "aria-labelledby":
                self.refers += (value or "").split()
            if key in ("src", "href", "srcset", "action", "data", "xlink:href"):
                self.links.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


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


def test_the_video_that_is_shown_is_the_most_typical(kitchen: Kitchen):
    """Gains: v +50, w -50, x and y +50 points, of all 25; the first of the closest is v."""
    found = compare(kitchen.store, kitchen.a, kitchen.b, config=QUICK)
    shown = timeline(found, kitchen.store.taxonomy)
    assert shown.video == "v<1>"
    assert "gain in top-1 (+50.00 points)" in shown.chosen
    assert shown.chosen.endswith("whole split (+25.00).")
    assert [event.start_s for event in shown.events] == [2, 3]
    assert timeline(found, kitchen.store.taxonomy, "w").chosen == ""


def invoke(kitchen: Kitchen, *arguments: str) -> Result:
    return CliRunner().invoke(ROOT, ["report", str(kitchen.folder / "kitchen"), *arguments])


def test_command(kitchen: Kitchen):
    page = kitchen.folder / "report.html"
    wanted = [f"--{side}={name}" for side in "ab" for name in getattr(kitchen, side)]
    wanted += ["--over", "all", "--bootstrap", "20", "-o", str(page)]
    done = invoke(kitchen, *wanted, "--teacher", "targets/count", "--shown-classes", "3")
    assert done.exit_code == 0, done.output
    first = page.read_text("utf-8")
    again = invoke(kitchen, *wanted)
    assert again.exit_code == 2
    assert "already here" in again.stderr
    assert page.read_text("utf-8") == first
    assert invoke(kitchen, *wanted, "--overwrite").exit_code == 0
    assert page.read_text("utf-8") != first
    assert "<title>b compared with a</title>" in first
    named = ("--overwrite", "--name", "hard & fast", "--name", "soft")
    assert invoke(kitchen, *wanted, *named).exit_code == 0
    text = page.read_text("utf-8")
    assert "<title>soft compared with hard &amp; fast</title>" in text
    assert 'data-label="hard &amp; fast"' in text
    assert not re.search(r">\s*[ABab]\s*<", text)  # no letter stands for a side
    assert not list(kitchen.folder.glob(".report*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which systems?"),
        (("a0", "b0", "--a", "a0"), "which systems?"),
        (("--a", "a0", "--a", "a1", "--b", "b0"), "paired by order"),
        (("a0", "nowhere"), "no predictions here"),
        (("a0", "b0", "--name", "one"), "impossible names: expected two different ones"),
        (("a0", "b0", "--teacher", "targets/nobody"), "nobody"),
        (("a0", "b0", "--video", "nowhere"), "no segment of this video counts"),
        (("a0", "b0", "--shown-classes", "0"), "impossible classes: expected from 1"),
        (("a0", "b0", "--bootstrap", "0"), "needs resamples"),
        (("a0", "b0", "--bootstrap", "-2"), "impossible --bootstrap"),
        (("a0", "b0", "--seed", "-1"), "impossible --seed"),
        (("a0", "b0", "-o", "missing/report.html"), "no folder to write the report in"),
        (("a0", "b0", "-o", "a0"), "a folder is here"),
    ],
)
def test_bad_input_ends_with_one_line(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
):
    monkeypatch.chdir(kitchen.folder)
    before = sorted(kitchen.folder.iterdir())
    done = invoke(kitchen, "--over", "all", "--bootstrap", "20", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(kitchen.folder.iterdir()) == before


def test_outputs_are_checked_before_the_work(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch):
    nobody = ["nobody"]
    (kitchen.folder / "here.html").write_text("mine")
    with pytest.raises(AlreadyExists, match="already here"):
        write_report(kitchen.store, nobody, nobody, kitchen.folder / "here.html")
    with pytest.raises(NotFound, match="no folder"):
        write_report(kitchen.store, nobody, nobody, kitchen.folder / "x" / "y.html")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"jinja2.*antcache\[report\]"):
        write_report(kitchen.store, nobody, nobody, kitchen.folder / "new.html")


def test_numbers_as_text():
    assert [signed(v) for v in (1.234, -0.001, 0.0)] == ["+1.23", "0.00", "0.00"]
    assert signed(-1.25, 1) == "\N{MINUS SIGN}1.2"
    assert [clock(s) for s in (0, 59.96, 125.5, 3600)] == ["0:00.0", "1:00.0", "2:05.5", "60:00.0"]
    assert ticks(0, 1) == [0, 0.25, 0.5, 0.75, 1]
    assert ticks(-3, 17) == [0, 5, 10, 15]
    assert ticks(2.31, 2.33) == pytest.approx([2.31, 2.315, 2.32, 2.325, 2.33])
