"""The notebook of the docs runs from top to bottom, offline, and is kept without its outputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "kitchen.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_kept_as_written(notebook) -> None:
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert "kitchen.ipynb" in (NOTEBOOK.parent / "index.md").read_text("utf-8")


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(
    notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a kernel of its own, with the smallest kitchen; whatever asks for a network finds none."""
    monkeypatch.setenv("ANTCACHE_NOTEBOOK", "small")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for scheme in ("http", "https", "all"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    printed = "".join(
        out.text for c in notebook.cells for out in c.get("outputs", ()) if "text" in out
    )
    for line in (
        r"train: \d+ segments of 3 videos",
        r"(\d+) of \1 segments have a soft target",
        r"distilled: top-5 [\d.]+ %",
        r"action/recall@5 +[\d.]+ -> +[\d.]+  \([+-]",
        r"report\.html: \d+ kB",
        r"10 s: in 1 s, .+ \d+ %",
    ):
        assert re.search(line, printed), (line, printed)
    pictures = [
        out.data["image/jpeg"]
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        if "image/jpeg" in out.get("data", {})
    ]
    assert len(pictures) == 5
    (report,) = tmp_path.glob("kitchen-*/report.html")
    assert "data:image/jpeg;base64," in report.read_text("utf-8")
