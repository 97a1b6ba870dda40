"""Where the tests of the command line find what they share, and a small store."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))  # cli_commands

from antcache.cli.main import cli

HEAD = ("uid", "video", "start", "stop", "verb", "noun")


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `store` of two splits and the soft targets `x` of a count teacher."""
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "table").mkdir()
    for split in ("train", "validation"):
        rows = [
            (f"{split} {i}", f"{split[0]}{i % 6}", i + 1.5, i + 2.25, f"take {i % 3}", "pan")
            for i in range(24)
        ]
        with (folder / "table" / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([HEAD, *rows])
    for line in (
        f"annotations import table {folder}/table {folder}/store",
        f"teacher train {folder}/store --name x",
    ):
        result = CliRunner().invoke(cli, line.split())
        assert result.exit_code == 0, result.output
    return folder
