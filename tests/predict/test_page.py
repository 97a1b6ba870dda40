"""The page of answers: what it shows, that it is harmless, and that it fits a phone."""

from __future__ import annotations

import html
import json
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from predict_kitchen import taxonomy, write_coloured

from antcache.annotations import Protocol, Segments
from antcache.errors import AlreadyExists
from antcache.predict import bands
from antcache.predict.answers import Anticipation, Likely
from antcache.predict.page import ShownVideo, render, write_page
from antcache.predict.truth import Truth

EVIL = "<script>alert(1)</script>\x1b[31m" + "long-name-without-an-end " * 3
NAMES = (*taxonomy().actions[:3], EVIL)
PICTURES = bands.PICTURES + 3  # there are answers up to the middle of the second strip's third
LOGGED = ("--enable-logging=stderr", "--v=0")


def student() -> Any:
    """What a page asks of one."""
    return SimpleNamespace(
        protocol=Protocol(gap_s=1.0, num_frames=4, rate=2.0),
        taxonomy=SimpleNamespace(actions=NAMES),
        config=SimpleNamespace(model=SimpleNamespace(head="gru")),
        streams=(SimpleNamespace(source="facebook/<dinov2>"),),
    )


def answers(count: int = 60, step: float = 0.5) -> list[Anticipation]:
    """One action after another, the next of them second."""
    found = []
    for number in range(1, count + 1):
        first = int(number * step / 2) % 4
        top = [Likely(action=(first + i) % 4, name=NAMES[(first + i) % 4], probability=p)
               for i, p in enumerate((0.6, 0.3, 0.08, 0.02))]  # fmt: skip
        found.append(Anticipation(time_s=number * step, gap_s=1.0, top=tuple(top), video="v"))
    return found


def truth() -> Truth:
    """Some guesses are right, some second ones; there are no labels from 24 s on."""
    rows = [(2.0 * i, 2.0 * i + 2, (i - (i < 5)) % 4) for i in range(12)]
    start, stop, action = zip(*rows, strict=True)
    zeros = np.zeros(len(rows), np.int64)
    segments = Segments.of(
        uid=[str(i) for i in range(len(rows))],
        video=["v"] * len(rows),
        start_s=start,
        stop_s=stop,
        verb=zeros,
        noun=zeros,
        action=action,
    )
    found = Truth.of(segments, "v")
    assert found is not None
    assert Truth.of(segments, "w") is None
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, video: Any) -> Path:
    """A page of two videos, one with pictures and labels."""
    folder = tmp_path_factory.mktemp("page")
    film = write_coloured(video.write, folder / "v.mp4", [Fraction(i, 10) for i in range(300)], 0)
    shown = [
        ShownVideo(name="v <b>" + "y" * 80, answers=answers(), source=film, truth=truth()),
        ShownVideo(name="w", answers=answers(2000, 0.25)),
    ]
    write_page(folder / "page.html", shown, student(), labelled=True)
    with pytest.raises(AlreadyExists, match=r"page\.html"):
        write_page(folder / "page.html", shown, student())
    return folder / "page.html"


def test_answers_are_judged_by_what_is_under_way_then() -> None:
    own, given = truth(), answers()
    judged = {each.time_s: own.judged(each) for each in given}
    assert own.at(-1) == -1
    assert own.at(24.0) == -1
    assert own.at(23.99) == 3
    for time_s, said in judged.items():
        wanted = "none" if time_s + 1 >= 24 else None
        ids = [each.action for each in given[int(time_s * 2) - 1].top]
        if wanted is None:
            came = own.at(time_s + 1)
            wanted = "right" if ids[0] == came else "near"
        assert said == wanted
    assert {"right", "near", "none"} == set(judged.values())


def test_it_says_what_was_said(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
    assert len(re.findall("<h2", text)) == 3
    assert text.count('<img src="data:image/jpeg;base64,') == PICTURES
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    own, given = truth(), answers()
    judged = [own.judged(each) for each in given]
    right, near = judged.count("right"), judged.count("near")
    assert f"{right} are right, {near} more have it among the 5 best" in text
    assert "mean of up to 2 answers" in text
    assert text.count('class="hit right"') == right + 1  # and one in the key
    assert len(text) < 1_000_000


def test_bands_are_as_strong_as_actions_are_likely() -> None:
    (strip, _) = bands.strips(answers(), NAMES, observed_s=2.0, truth=None, label="s")
    assert strip.start_s == 0.0
    assert strip.stop_s == 20.0
    assert strip.pictures_s == (2.0, 6.0, 10.0, 14.0, 18.0)
    for level, expected in ((6, {"60 %"}), (3, {"30 %"}), (1, {"8 %", "2 %"})):
        titles = re.findall(rf'class="band p{level}"><title>([^<]*)</title>', strip.drawing)
        assert {" ".join(title.split()[-2:]) for title in titles} == expected
    assert "hit" not in strip.drawing


@pytest.mark.parametrize("count", [1, 40, 41, 1600, 1601, 30_000])
def test_a_page_of_any_length_is_bounded(count: int) -> None:
    found = bands.strips(answers(count), NAMES, observed_s=2.0, truth=None, label="s")
    assert 1 <= len(found) <= bands.MOST_STRIPS + 1
    assert bands.together(answers(count)) == max(1, -(-count // 1600))


def test_a_page_without_pictures_or_labels_is_one() -> None:
    text = render([ShownVideo(name="v", answers=answers(1))], student())
    assert "<img" not in text
    assert "was it right" not in text


FRAME = """
<iframe id="seen" width="{width}" height="900" style="border:0" src="{page}"></iframe>
<script>
onload = () => {{
  const root = document.querySelector("iframe").contentDocument.documentElement;
  const view = document.querySelector("iframe").contentWindow;
  const off = [...root.querySelectorAll("body *")].filter(e => {{
    const box = e.getBoundingClientRect(), style = view.getComputedStyle(e);
    const cut = style.overflowX != "visible" && e.scrollWidth > e.clientWidth;
    return cut || box.left < 0 || box.right > root.clientWidth + 0.5;
  }});
  const images = [...root.querySelectorAll("img")];
  const seen = {{wide: root.scrollWidth, width: root.clientWidth,
                 off: off.map(e => e.outerHTML.slice(0, 90)),
                 images: images.filter(i => i.naturalWidth > 0 && i.clientWidth > 20).length}};
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify(seen);
}}
</script>
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits(browser: Any, page: Path, width: int) -> None:
    """Nothing is cut off or beside the page, pictures are there, and nothing complains."""
    frame = page.parent / f"frame{width}.html"
    frame.write_text(FRAME.format(width=width, page=page.name))
    size = f"--window-size={width + 40},1000"
    done = browser.run(frame, "--dump-dom", "--allow-file-access-from-files", size, *LOGGED)
    found = re.search("<pre>(.*)</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout[:500]
    seen = json.loads(html.unescape(found[1]))
    assert seen["wide"] <= seen["width"] <= width
    assert seen["off"] == []
    assert seen["images"] == PICTURES
    assert "CONSOLE" not in done.stderr


@pytest.mark.slow
def test_light_and_dark(browser: Any, page: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    light = []
    for name, scheme in (("dark", 0), ("light", 1)):
        file = tmp_path / f"{name}.png"
        preferred = f"--blink-settings=preferredColorScheme={scheme}"
        browser.run(page, preferred, "--window-size=1000,1200", f"--screenshot={file}")
        light.append(np.asarray(image.open(file).convert("L")).mean())
    assert light[0] < 90
    assert light[1] > 190
