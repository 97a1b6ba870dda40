"""The page in a browser: opened, clicked, typed into, measured and photographed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsed_kitchen import HOSTILE
from driven_browser import DrivenBrowser

from antcache.browse import BrowseConfig, Shelf, export_pages, serve
from antcache.store import Store

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

READY = "list && notes && figures.filter(Boolean).length === list.systems.length"
WIDTHS = (400, 1400)


def shelf_of(folder: Path, films: Path, **options: Any) -> Shelf:
    runs = [folder / "runs/plain", folder / "runs/distilled"]
    return Shelf(Store.open(folder / "kitchen.zarr"), runs=runs, videos=films, **options)


@pytest.fixture(scope="module")
def served(browsed: Path, films: Path) -> Iterator[str]:
    """The address of a server in this process."""
    import uvicorn

    servers: list[uvicorn.Server] = []
    with pytest.MonkeyPatch.context() as patch:
        usual = uvicorn.Server.run
        patch.setattr(
            uvicorn.Server, "run", lambda self, **k: (servers.append(self), usual(self, **k))
        )
        addresses: list[str] = []
        ready = threading.Event()

        def say(address: str) -> None:
            addresses.append(address)
            ready.set()

        given = {"target": serve, "args": (shelf_of(browsed, films), BrowseConfig(port=0))}
        thread = threading.Thread(**given, kwargs={"ready": say})
        thread.start()
        assert ready.wait(30)
        yield addresses[0]
        servers[0].should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def exported(browsed: Path, films: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the page as files."""
    out = tmp_path_factory.mktemp("exported") / "out"
    export_pages(shelf_of(browsed, films, single=False), out)
    return (out / "index.html").as_uri()


@pytest.fixture
def page(driven: DrivenBrowser, served: str) -> Iterator[DrivenBrowser]:
    """The list, as wide as a desk's, which must not complain of anything until the test's end."""
    driven.events.clear()
    driven.look(width=1400)
    driven.open(served)
    driven.wait(READY)
    yield driven
    assert driven.complaints() == []


def shown(page: DrivenBrowser) -> list[str]:
    found = page.run("[...document.querySelectorAll('#videos b')].map(e => e.textContent)")
    return list(found)


def test_the_list_and_the_store(page: DrivenBrowser) -> None:
    assert shown(page) == [*(f"P01_{i:02d}" for i in range(8)), "P02_01", "P02_02"]
    text = page.run("document.querySelector('main').innerText")
    for words in ("teacher sequence", "validation", "9 of 10", "What the doctor says", "flow"):
        assert words in text
    assert "no flow, tokens" in page.run("document.querySelector('#videos').innerText")


def test_a_click_opens_a_video_and_a_segment(page: DrivenBrowser) -> None:
    page.click("#videos li:nth-child(9) a")
    page.wait("document.querySelectorAll('.card').length === 2")
    assert page.run("document.querySelector('main h2').textContent") == "P02_01"
    assert page.run("document.querySelectorAll('.seg:not(.guess)').length") == 30
    assert page.run("document.querySelectorAll('.guess').length") == 60
    assert page.run("document.querySelectorAll('.rows').length") == 3
    page.click("[data-s='6']")
    page.wait("location.hash.endsWith('s=6')")
    video = page.run("get('video-8').then(v => v.uid[6])")
    assert f"segment {video}" in page.run("document.querySelector('#segment').innerText")
    page.wait("document.querySelectorAll('.film img').length > 3")
    page.wait("document.querySelectorAll('.seen img').length === 6")
    page.wait("[...document.images].every(e => e.complete && e.naturalWidth > 0)")
    page.click("#store")
    page.wait("document.querySelector('main h2').textContent === 'kitchens'")


def test_a_video_that_can_not_be_decoded_says_why(page: DrivenBrowser) -> None:
    page.click("#videos li:nth-child(10) a")
    page.wait("document.querySelector('#dark')?.textContent.includes('P02_02.mp4')")
    assert page.run("document.querySelectorAll('.film').length") == 0


def test_keys(page: DrivenBrowser) -> None:
    for _ in range(9):
        page.press("j")
    page.wait("document.querySelector('main h2').textContent === 'P02_01' && state.open")
    page.press("l")
    page.press("ArrowRight")
    assert page.run("state.segment") == 2
    page.press("h")
    assert page.run("state.segment") == 1
    page.press("n")
    ranks = page.run("state.open.guesses[2].rank")
    misses = [s for s, rank in enumerate(ranks) if s > 1 and rank >= 5]
    assert page.run("state.segment") == misses[0]
    wide = page.run("document.querySelector('#plane').offsetWidth")
    page.press("+")
    assert page.run("document.querySelector('#plane').offsetWidth") == 2 * wide
    page.press("k")
    page.wait("document.querySelector('main h2').textContent === 'P01_07'")
    page.press("ArrowDown")
    page.wait("document.querySelector('main h2').textContent === 'P02_01'")
    page.press("?")
    page.wait("document.querySelector('dialog').open")
    page.press("Escape")
    page.wait("!document.querySelector('dialog').open")
    page.press("Escape")
    page.wait("state.video === null")


def test_search(page: DrivenBrowser) -> None:
    page.press("/")
    page.wait("document.activeElement.id === 'search'")
    page.type("wash knife")
    counts = page.run("classes.here.map((own, v) => own.includes(36))")
    names = page.run("list.videos")
    assert shown(page) == [name for name, has in zip(names, counts, strict=True) if has]
    assert 0 < len(shown(page)) < 10
    assert "found" in page.run("document.querySelector('#videos').innerText")
    page.press("Enter")
    page.wait("state.open && document.querySelector('.seg.hit')")
    assert page.run("document.querySelectorAll('.seg.dim').length") > 20
    page.run("(e => { e.value = 'P02'; e.dispatchEvent(new Event('input')) })($('search'))")
    assert shown(page) == ["P02_01", "P02_02"]
    page.run("(e => { e.value = ''; e.dispatchEvent(new Event('input')) })($('search'))")
    assert len(shown(page)) == 10


def test_sorting_by_error_and_splits(page: DrivenBrowser) -> None:
    def choose(name: str, value: str) -> list[str]:
        code = f"(e => {{ e.value = '{value}'; e.dispatchEvent(new Event('change')) }})"
        page.run(f"{code}(document.querySelector('#{name}'))")
        return shown(page)

    means = page.run("figures[3].videos.mean")
    worst = max((8, 9), key=lambda v: means[v])
    assert choose("sort", "rank-3")[0] == page.run("list.videos")[worst]
    own = page.run("figures[0].videos")
    missed = [1 - a / b if b else -1 for a, b in zip(own["top5"], own["n"], strict=True)]
    order = sorted(range(10), key=lambda v: (-missed[v], v))
    assert choose("sort", "miss-0") == [page.run("list.videos")[v] for v in order]
    assert sorted(choose("split", "1")) == ["P02_01", "P02_02"]
    choose("split", "")
    assert choose("sort", "name")[0] == "P01_00"


def test_nothing_of_the_data_is_run(page: DrivenBrowser) -> None:
    """A class is called like markup: it is shown, letter by letter."""
    page.click("#videos li:nth-child(9) a")
    page.wait("document.querySelectorAll('.card').length === 2")
    page.click("[data-s='29']")
    page.wait("location.hash.endsWith('s=29')")
    text = HOSTILE.replace("\u202e", "\\u202e")
    assert page.run("document.querySelector('#segment h2').textContent") == text
    assert page.run("document.scripts.length") == 1
    assert page.run("document.title") == "P02_01 - antcache browse"


def test_it_can_be_used_without_a_mouse_or_eyes(page: DrivenBrowser) -> None:
    page.click("#videos li:nth-child(9) a")
    page.wait("document.querySelectorAll('.card').length === 2")
    every = 'document.querySelectorAll("button, input, select, a, [role]")'
    named = "e.textContent.trim() || e.ariaLabel || e.labels?.length || e.title"
    unnamed = f"[...{every}].filter(e => !({named})).map(e => e.outerHTML)"
    assert page.run(unnamed) == []
    assert page.run("[...document.images].every(e => e.hasAttribute('alt'))")
    page.press("l")
    said = page.run("document.querySelector('[aria-live]').textContent")
    assert said.startswith(page.run("nameOf(state.open.video.action[1])"))
    page.run("document.querySelector('#search').focus()")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.run(outline) == "solid"


def test_it_fits_and_has_two_colours(
    driven: DrivenBrowser, served: str, exported: str, tmp_path: Path
) -> None:
    """As wide as a phone and as a desk, dark and light, served and from files."""
    image = pytest.importorskip("PIL.Image")
    driven.events.clear()
    looks = [(served, width, dark) for width in WIDTHS for dark in (False, True)]
    for base, width, dark in [*looks, (exported, 400, True)]:
        driven.look(width=width, dark=dark)
        for part in ("", "#v=P02_01&s=4"):
            driven.open(base + part)
            driven.wait(READY)
            if part:
                driven.wait("document.querySelectorAll('.card').length === 2")
                driven.wait("document.querySelectorAll('.film img').length > 1")
            assert driven.overflowing() == []
            photo = driven.photograph(tmp_path / "photo.png")
            pixels = np.asarray(image.open(photo).convert("L"), float)
            assert pixels.shape == (900, width)
            assert pixels.mean() < 75 if dark else pixels.mean() > 200
            assert pixels.std() > 10
    assert driven.complaints() == []


def test_from_files_it_does_the_same(driven: DrivenBrowser, exported: str) -> None:
    driven.events.clear()
    driven.look(width=400)
    driven.open(exported)
    driven.wait(READY)
    driven.click("#videos li:nth-child(9) a")
    driven.wait("document.querySelectorAll('.card').length === 2")
    assert driven.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    driven.click("#back")
    driven.wait("getComputedStyle(document.querySelector('nav')).display === 'block'")
    driven.press("/")
    driven.type("cut")
    assert 0 < len(shown(driven)) <= 10
    assert driven.complaints() == []


def test_the_browser_would_have_complained(driven: DrivenBrowser, exported: str) -> None:
    """What the tests above rely on."""
    driven.events.clear()
    driven.look(width=400)
    driven.open(exported)
    driven.wait(READY)
    driven.run(
        "document.head.append(Object.assign(document.createElement('script'), "
        "{textContent: 'window.inline = 1'}))"
    )
    assert driven.run("window.inline") is None
    assert any("Content Security Policy" in text for text in driven.complaints())
    driven.run("document.body.insertAdjacentHTML('beforeend', '<p id=wide>x</p>')")
    driven.run("document.querySelector('#wide').style.width = '500px'")
    assert driven.overflowing()
    driven.events.clear()
