"""The report in a browser: nothing complains, scripts don't matter, and it fits a phone."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation import Predictions
from antcache.evaluation.comparing.compare import CompareConfig
from antcache.evaluation.report import write_report
from antcache.evaluation.sheet import BootstrapConfig
from antcache.store import Store

LOGGED = ("--enable-logging=stderr", "--v=0")
PHONE = 400  # CSS pixels
LONG = "put_down_" + "very_long_name_of_a_thing_" * 4  # no place to break it

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty segments in four videos, two runs of each side with curves, a teacher, long names."""
    folder = tmp_path_factory.mktemp("report") / ("a-long-folder-name" * 4)
    folder.mkdir()
    taxonomy = Taxonomy(
        dataset="small",
        verbs=("take", "put"),
        nouns=("cup", "knife", "pan", "tap"),
        actions=("take cup", "take knife", "put cup", LONG, "take pan", "put knife", "put tap"),
        action_verbs=(0, 0, 1, 1, 0, 1, 1),
        action_nouns=(0, 1, 0, 2, 2, 1, 3),
    )
    rng = np.random.default_rng(0)
    action = rng.integers(0, 7, size=40)
    start_s = np.concatenate([np.sort(rng.uniform(2, 60, 10)) for _ in range(4)])
    segments = Segments.of(
        uid=[f"s{i}" for i in range(40)],
        video=np.repeat(["v", "w", "x", "y" * 60], 10),
        start_s=start_s,
        stop_s=start_s + rng.uniform(0.5, 6, 40),
        verb=taxonomy.verb_of[action],
        noun=taxonomy.noun_of[action],
        action=action,
    )
    store = Store.create(folder / "kitchen")
    store.write_labels("validation", segments, taxonomy, source="test")
    runs = []
    for name, strength in (("a0", 1), ("a1", 1), ("b0", 2), ("b1", 2), ("teacher", 2)):
        (folder / name).mkdir()
        scores = rng.normal(size=(40, 7)).astype(np.float32)
        scores[np.arange(40), action] += strength
        Predictions(
            uid=segments.uid, scores=scores, split="validation", taxonomy=taxonomy.fingerprint
        ).save(folder / name / "predictions.safetensors")
        lines = [json.dumps({"epoch": e, "loss": strength / e, "action_loss": 1}) for e in (1, 2)]
        (folder / name / "metrics.jsonl").write_text("\n".join(lines))
        runs.append(str(folder / name))
    write_report(
        store,
        runs[:2],
        runs[2:4],
        folder / "report.html",
        names=("plain", "soft_targets_of_a_language_model_with_a_long_name_in_one_piece" * 2),
        teacher=runs[4],
        config=CompareConfig(sampling=BootstrapConfig(resamples=20)),
    )
    return folder / "report.html"


FRAME = """
<iframe id="plain" width="{width}" height="800" style="border:0" src="{page}"></iframe>
<iframe id="off" sandbox="allow-same-origin" src="{page}"></iframe>
<iframe id="control" sandbox="allow-same-origin"
 srcdoc="<p>as written</p><script>document.body.textContent = 'changed'</script>"></iframe>
<script>
// First and last row of a table by each of its columns, rising and falling, as a reader clicks.
const sorted = table => [...table.tHead.rows[0].cells].map(head => [0, 1].map(() => {{
  head.querySelector("button").click();
  const rows = [...table.tBodies[0].rows].map(row => row.cells[head.cellIndex].textContent);
  return [head.textContent, head.getAttribute("aria-sort"), rows];
}}));
onload = () => {{
  const seen = {{}};
  for (const frame of document.querySelectorAll("iframe")) {{
    const root = frame.contentDocument.documentElement, counts = {{}};
    for (const e of root.querySelectorAll("*"))
      counts[e.localName] = (counts[e.localName] ?? 0) + 1;
    const view = frame.contentWindow, off = [...root.querySelectorAll("body *")].filter(e => {{
      const box = e.getBoundingClientRect(), style = view.getComputedStyle(e);
      const cut = style.overflowX != "visible" && e.scrollWidth > e.clientWidth;
      return cut || box.left < 0 || box.right > root.clientWidth + 0.5;
    }});
    // The buttons by which a script sorts are on a phone a row of their own, without it nothing.
    const wide = root.scrollWidth, live = [...root.querySelectorAll("table.live")];
    live.forEach(table => table.classList.remove("live"));
    seen[frame.id] = {{text: frame.contentDocument.body.innerText, counts,
                      rows: live.map(sorted),
                      off: off.map(e => e.outerHTML.slice(0, 90)),
                      wide, width: root.clientWidth}};
  }}
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify(seen);
}}
</script>
"""


@pytest.fixture(scope="module")
def seen(browser: Any, page: Path) -> dict[str, Any]:
    """What a page around the report sees of it, as wide as a phone, and with scripts off.

    A sandboxed frame runs no script but can be read; the report itself runs none to measure with.
    """
    frame = page.parent / "frame.html"
    frame.write_text(FRAME.format(width=PHONE, page=page.name))
    done = browser.run(frame, "--dump-dom", "--allow-file-access-from-files", *LOGGED)
    found = re.search("<pre>(.*)</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout[:500]
    return {**json.loads(html.unescape(found[1])), "log": done.stderr}


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if "CONSOLE" in line]


def test_without_scripts_the_text_is_the_same(seen: dict[str, Any], page: Path):
    assert seen["control"]["text"] == "as written"  # scripts are off there
    assert seen["off"]["text"] == seen["plain"]["text"]
    for text in ("Summary", "Training curves", "Timeline of", "right", "put_down"):
        assert text in seen["off"]["text"]
    # What the browser made of the page is what was written: no element was moved or dropped.
    written = page.read_text("utf-8")
    for element in ("table", "tr", "td", "rect", "polyline", "text", "li", "dd", "section"):
        count = len(re.findall(rf"<{element}[ />]", written))
        assert seen["plain"]["counts"][element] == count > 0, element
    assert 20_000 < len(written) < 200_000


def test_large_tables_are_sorted_by_each_column(seen: dict[str, Any]):
    """By buttons that a keyboard reaches as well; what sorts, and how, is said to every reader."""
    tables = seen["plain"]["rows"]
    assert len(tables) == 4  # actions, verbs, nouns, videos
    assert seen["off"]["rows"] == []
    for table in tables:
        for column, clicks in enumerate(table):
            for name, way, cells in clicks:
                assert len(cells) > 1
                values: list[Any] = cells
                if column and name != "many-shot":
                    values = [float(c.replace("\N{MINUS SIGN}", "-")) for c in cells]
                assert values == sorted(values, reverse=way == "descending"), name
            assert {way for _, way, _ in clicks} == {"ascending", "descending"}
            first = clicks[0][1]
            assert first == ("descending" if column else "ascending")  # largest number, first name


def test_it_fits_a_phone(seen: dict[str, Any]):
    assert seen["plain"]["wide"] <= seen["plain"]["width"] <= PHONE
    assert seen["plain"]["off"] == []  # nor is anything cut off, or to be scrolled to


def test_nothing_complains(browser: Any, seen: dict[str, Any], tmp_path: Path):
    """But the two sandboxed frames, about their scripts, which may not run."""
    assert all("Blocked script execution" in line for line in complaints(seen["log"]))
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.error('oh')</script>")
    assert complaints(browser.run(bad, "--dump-dom", *LOGGED).stderr)


def test_light_dark_and_print(browser: Any, page: Path, tmp_path: Path):
    image = pytest.importorskip("PIL.Image")
    light = []
    for name, scheme in (("dark", 0), ("light", 1)):
        file = tmp_path / f"{name}.png"
        preferred = f"--blink-settings=preferredColorScheme={scheme}"
        browser.run(page, preferred, "--window-size=500,600", f"--screenshot={file}")
        light.append(np.asarray(image.open(file).convert("L")).mean())
    assert light[0] < 80
    assert light[1] > 200
    printed = tmp_path / "report.pdf"
    browser.run(page, f"--print-to-pdf={printed}")
    assert printed.read_bytes().startswith(b"%PDF")
    assert printed.stat().st_size > 20_000
