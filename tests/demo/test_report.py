"""The demo's report, part by part, from numbers made up here."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy
from antcache.demo.report import METRICS, SIDES, DemoOutcome, SeedRuns, write_report
from antcache.evaluation.report import Films

EPOCHS, PHONE = 4, 400
PICTURE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def runs(seeds: int, rng: np.random.Generator) -> SeedRuns:
    """A student whose figures grow, with another value for each seed."""
    figures = np.arange(seeds * EPOCHS, dtype=np.float64).reshape(seeds, EPOCHS)
    return SeedRuns(
        metrics=[dict.fromkeys(METRICS, 10.0 + seed) for seed in range(seeds)],
        curves={"action/top1": figures, "action/recall@5": figures},
        epochs=np.arange(1, EPOCHS + 1),
        loss=-figures,
        scores=rng.normal(size=(seeds, 6, 3)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of six segments, and two seeds of one student and three of the other."""
    rng = np.random.default_rng(0)
    action = np.array([0, 1, 2, 0, 1, 2])
    taxonomy = Taxonomy(
        dataset="toy",
        verbs=("take",),
        nouns=("cup", "knife", "cutting-board-of-the-neighbours"),
        actions=("take cup", "take knife", "take cutting-board-of-the-neighbours"),
        action_verbs=(0, 0, 0),
        action_nouns=(0, 1, 2),
    )
    segments = Segments.of(
        uid=[f"s{i}" for i in range(6)],
        video=["v"] * 6,
        start_s=np.arange(6) + 5.0,
        stop_s=np.arange(6) + 5.9,
        verb=np.zeros(6, np.int64),
        noun=action,
        action=action,
    )
    outcome = DemoOutcome(
        taxonomy=taxonomy,
        segments=segments,
        teacher=dict.fromkeys(METRICS, 20.0),
        teacher_scores=rng.normal(size=(6, 3)).astype(np.float32),
        runs={name: runs(seeds, rng) for name, seeds in zip(SIDES, (2, 3), strict=True)},
        steps=[("render videos", 1.5, "1 MP4 file, " + "long words " * 20)],
        settings={"protocol": {"gap_s": 1.0, "num_frames": 4, "rate": 2.0}},
    )
    films = Films(lambda video, times: [PICTURE] * len(times))
    path = tmp_path_factory.mktemp("demo") / "report.html"
    write_report(outcome, films, path)
    return path


def test_every_curve_has_the_style_of_its_student(page: Path) -> None:
    """In each of three panels: a thin line for each seed, and a thick one of their mean."""
    lines = re.findall(r'<polyline [^>]*class="(thin|thick) ([ab])"', page.read_text("utf-8"))
    for side, seeds in zip(SIDES.values(), (2, 3), strict=True):
        assert lines.count(("thin", side)) == 3 * seeds
        assert lines.count(("thick", side)) == 3
    assert len(lines) == 3 * (2 + 3 + 2)


def test_every_table_says_what_its_cells_are_and_scrolls_by_itself(page: Path) -> None:
    text = page.read_text("utf-8")
    tables = re.findall(r"(<div [^>]*>)\n<table>(.*?)</table>", text, re.DOTALL)
    assert len(tables) == text.count("<table") == 4
    for around, inside in tables:
        assert all(word in around for word in ('class="wide"', 'role="region"', "aria-label="))
        heads = re.findall("<th(?!ead)[^>]*>", inside)
        assert len(heads) > 3
        assert all('scope="' in head for head in heads)
        filled = re.findall("<td([^>]*)>[^<]", inside)
        assert all("data-label=" in attributes for attributes in filled)  # named on a phone, too
    assert text.count("<svg") == text.count('role="img"') == text.count("<desc") == 3


def test_it_loads_nothing(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "Content-Security-Policy\" content=\"default-src 'none'; " in text
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert {source.partition(":")[0] for source in sources} == {"data"}
    assert "<script" not in text


MEASURE = """
<iframe width="{width}" height="800" style="border:0" src="{page}"></iframe>
<script>
onload = () => {{
  const root = document.querySelector("iframe").contentDocument.documentElement;
  document.body.textContent = JSON.stringify([root.scrollWidth, root.clientWidth]);
}}
</script>
"""


@pytest.mark.slow
def test_it_fits_a_phone_and_follows_the_readers_light(
    browser: Any, page: Path, tmp_path: Path
) -> None:
    image = pytest.importorskip("PIL.Image")
    frame = page.parent / "frame.html"
    frame.write_text(MEASURE.format(width=PHONE, page=page.name))
    seen = browser.run(frame, "--dump-dom", "--allow-file-access-from-files").stdout
    found = re.search(r"\[\d+,\d+\]", html.unescape(seen))
    assert found, seen[:500]
    wide, width = json.loads(found[0])
    assert wide <= width <= PHONE
    light = []
    for scheme in (0, 1):
        file = tmp_path / f"{scheme}.png"
        preferred = f"--blink-settings=preferredColorScheme={scheme}"
        browser.run(page, preferred, "--window-size=500,600", f"--screenshot={file}")
        light.append(np.asarray(image.open(file).convert("L")).mean())
    assert light[0] < 80
    assert light[1] > 200
