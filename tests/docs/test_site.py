"""The documentation as a site: it is built without a warning, whole, and fits a phone."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("mkdocs", reason="the site's tools are not installed")
pytestmark = pytest.mark.slow

PHONE = 400  # CSS pixels
FRAMES = """
{frames}
<script>
onload = () => setTimeout(() => {{
  const seen = {{}};
  for (const frame of document.querySelectorAll("iframe")) {{
    const root = frame.contentDocument.documentElement;
    seen[frame.name] = {{wide: root.scrollWidth, width: root.clientWidth,
                        words: frame.contentDocument.body.innerText.length}};
  }}
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify(seen);
}}, 500);
</script>
"""


class Links(HTMLParser):
    """What a page links to and fetches, and the places in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect"):
            self.fetched.append(given["href"])
        elif "src" in given:
            self.fetched.append(given["src"])


@pytest.fixture(scope="module")
def site(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does; the package is put together from links."""
    folder = tmp_path_factory.mktemp("docs")
    installed = folder / "installed"
    (installed / "antcache").mkdir(parents=True)
    for part in (*(repo / "antcache").iterdir(), repo / "kernels", repo / "cli"):
        (installed / "antcache" / part.name).symlink_to(part)
    built = folder / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", str(built)],
        cwd=repo,
        env=os.environ | {"ANTCACHE_INSTALLED": str(installed), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return built


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    """Its pages but the one for what is not found, each read once."""
    return {page: Links(page) for page in site.rglob("*.html") if page.name != "404.html"}


def test_no_link_is_broken(site: Path, pages: dict[Path, Links]) -> None:
    assert len(pages) > 25
    checked, broken = 0, []
    for page, links in pages.items():
        for link in links.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("mailto:"):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            places = pages[target].places if target in pages else None
            known = target.is_file() and (
                not parts.fragment or places is None or unquote(parts.fragment) in places
            )
            checked += 1
            if not known:
                broken.append(f"{page.relative_to(site)}: {link}")
    assert not broken
    assert checked > 500


def test_nothing_is_fetched_from_elsewhere(pages: dict[Path, Links]) -> None:
    for page, links in pages.items():
        assert links.fetched
        assert not [link for link in links.fetched if urlsplit(link).netloc], page


def test_every_page_fits_a_phone(site: Path, pages: dict[Path, Links], browser: Any) -> None:
    names = [str(page.relative_to(site)) for page in pages]
    frame = site / "frames.html"
    frames = "".join(
        f'<iframe name="{name}" width="{PHONE}" height="800" style="border:0" src="{name}">'
        "</iframe>"
        for name in names
    )
    frame.write_text(FRAMES.format(frames=frames))
    done = browser.run(
        frame, "--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=20000"
    )
    frame.unlink()
    found = re.search("<pre>(.*)</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout[:500]
    seen = json.loads(html.unescape(found[1]))
    assert seen.keys() == set(names)
    assert not {n: s for n, s in seen.items() if s["wide"] > s["width"] or s["width"] > PHONE}
    assert all(s["words"] > 100 for s in seen.values())
