"""A wrong path is answered before what is slow is loaded; `benchmarks/startup.py` times it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from antcache.store import Store

SLOW = {"torch", "transformers", "av", "zarr", "numba", "triton", "matplotlib", "pandas", "scipy"}
LINES = (
    "extract nowhere store --backbone nothing",
    "extract video.mp4 file --backbone nothing",
    "teacher train nowhere --name x --kind language",
    "teacher predict nowhere folder --name x",
    "teacher score nowhere x",
    "teacher foresee nowhere x",
    "student foresee nowhere run",
    "teacher ensemble nowhere a b --name x",
    "student train nowhere --run run",
    "student train store --run file --resume",
    "student predict nowhere run --split train -o p",
    "student stream nowhere run",
    "student sweep nowhere plan.yaml --runs runs",
    "predict nowhere --student run",
    "predict video.mp4 --student run --csv file",
    "store info nowhere",
    "store doctor nowhere",
    "store verify nowhere",
    "store convert nowhere copy",
    "import lmdb store rgb=nowhere",
    "import arrays nowhere store --dim 2 --fps 1",
    "import predictions nowhere file --name x",
    "export lmdb nowhere --stream rgb -o out",
    "export arrays nowhere --stream rgb -o out",
    "evaluate nowhere predictions",
    "fuse nowhere a b -o out",
    "submit nowhere p --challenge ek55 -o out",
    "watch nowhere --student run",
    "watch ftp://nowhere/x --student run",
)
CODE = """
import json, sys
from antcache.cli.main import main
for line in json.load(sys.stdin):
    sys.argv = ["antcache", *line.split()]
    try:
        main()
    except SystemExit as end:
        print(json.dumps([end.code, list(sys.modules)]))
"""


def test_a_wrong_path_loads_nothing_slow(tmp_path: Path) -> None:
    """One process for all: what one loads is there for the next."""
    for name in ("video.mp4", "file"):
        (tmp_path / name).touch()
    Store.create(tmp_path / "store")
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps(LINES),
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    errors = done.stderr.splitlines()
    for line, said, error in zip(LINES, done.stdout.splitlines(), errors, strict=True):
        code, loaded = json.loads(said)
        assert code == 2, line
        assert error.startswith("Error: "), line
        assert not {name.partition(".")[0] for name in loaded} & SLOW, line
