"""The training loop of the documentation is run as it stands there, and its predictions scored."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import doc_pages
import pytest

PAGE = "docs/api/index.md"


@pytest.mark.slow
def test_the_training_loop_of_the_page_runs(
    kitchen: Path, antcache: object, tmp_path: Path
) -> None:
    shutil.copytree(kitchen / "kitchen.zarr", tmp_path / "ek55.zarr")
    blocks = list(doc_pages.blocks(PAGE))
    script = "\n".join(block.text for block in blocks if block.language == "python")
    assert {block.language for block in blocks} == {"python", "sh"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (command,) = doc_pages.commands(PAGE)
    assert command.words[:2] == ("antcache", "evaluate")
    assert callable(antcache)
    assert "mine.safetensors" in antcache(tmp_path, *command.words[1:]).stdout
