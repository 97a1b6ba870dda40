"""The walk through machine code, on kernels whose traffic is known byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROWS, COLUMNS, PROGRAMS = 24, 2513, 8
ITEM_BYTES = {"*fp32": 4, "*bf16": 2}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    pytest.importorskip("triton")
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    cache = str(tmp_path_factory.mktemp("triton"))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("walked_kernels.py"))],
        capture_output=True,
        text=True,
        env={**env, "TRITON_CACHE_DIR": cache},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_loops_over_rows_and_blocks_move_what_they_say(walked):
    """Masks, unrolled loops and a grid of fewer programs than rows, on every architecture."""
    here = [one for one in walked if one["kernel"] == "persistent_kernel"]
    assert len(here) == 2 * 3
    assert {one["pointer"] for one in here} == ITEM_BYTES.keys()
    for one in here:
        row_bytes = COLUMNS * ITEM_BYTES[one["pointer"]]
        rows = ROWS // PROGRAMS
        assert one["loaded"] == 2 * rows * row_bytes, one
        assert one["stored"] == rows * row_bytes, one
        assert rows * row_bytes <= one["fresh"] <= rows * (row_bytes + 64), one


def test_what_only_the_last_program_reads_is_not_the_others(walked):
    here = [one for one in walked if one["kernel"] == "ticket_kernel"]
    assert len(here) == 3
    for one in here:
        assert (one["loaded"], one["stored"]) == (4, 4), one
        assert one["loaded by the last"] == 4 + 5000 * 4, one
