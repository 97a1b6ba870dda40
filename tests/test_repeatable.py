"""One input, one result: neither the hash seed nor the order of a folder's list decides."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

PIPELINE = """
import json, os, random, sys
from pathlib import Path

if sys.argv[1] == "backwards":
    listdir, scandir = os.listdir, os.scandir
    os.listdir = lambda *path: sorted(listdir(*path), reverse=True)

    class Backwards:  # what `with os.scandir(...)` and a loop over it need
        def __init__(self, *path):
            with scandir(*path) as entries:
                self.entries = iter(sorted(entries, key=lambda e: e.name, reverse=True))
        __enter__ = __iter__ = lambda self: self
        __next__ = lambda self: next(self.entries)
        __exit__ = close = lambda self, *error: None

    os.scandir = Backwards

import lmdb, numpy as np, torch
from click.testing import CliRunner
from antcache.cli.main import cli

torch.set_num_threads(1)
rng, lines, rows = random.Random(0), {"train": [], "validation": []}, np.random.default_rng(0)
for v in range(12):
    split = "train" if v < 9 else "validation"
    for i in range(8):
        verb, noun = rng.choice(["take", "put", "wash"]), rng.choice(["pan", "leek"])
        lines[split].append(f"{v:02d}-{i},P{v % 4:02d}_{v},{3 * i},{3 * i + 3},{verb},{noun}")
Path("labels").mkdir()
for split, these in lines.items():
    text = "uid,video,start,stop,verb,noun\\n" + "\\n".join(these)
    Path(f"labels/{split}.csv").write_text(text)
for stream in ("rgb", "flow"):
    with lmdb.open(stream, map_size=1 << 24) as database, database.begin(write=True) as writing:
        for v in range(12):
            for frame in range(0, 24 * 30, 15):
                key = f"P{v % 4:02d}_{v}_frame_{frame + 1:010d}.jpg"
                writing.put(key.encode(), rows.standard_normal(6).astype(np.float32).tobytes())
recipe = {"id": "a", "title": "T", "url": "u", "partition": "train", "ingredients": []}
recipe["instructions"] = [{"text": "Take the pan and put in the leek. Wash the leek."}]
Path("recipes.json").write_text(json.dumps([recipe]))
student = "student train kitchen --epochs 2 --width 8 --heads 2 --layers 1 --batch-size 8 "
student += "--held-out 0.4 --device cpu --precision float32 "
teacher = "teacher train kitchen --folds 3 --kind "
runs = "run/light run/late"
for command in [
    "annotations import table labels kitchen",
    "import lmdb kitchen rgb=rgb flow=flow --fps-of-keys 30 --dtype float16",
    "store doctor kitchen",
    teacher + "count --name count",
    teacher + "sequence --name sequence --epochs 1 --history observed",
    "teacher ensemble kitchen count sequence --name joint --mix stack --mixed-histories --folds 3",
    "teacher score kitchen kitchen.teachers/count --noise 0.2 --bootstrap 20",
    "teacher corpus recipes.json -o corpus --taxonomy-from kitchen",
    student + "--stream rgb --targets count,sequence --target-weights attention --run run/light",
    student + "--stream flow,rgb --fusion late --run run/late",
    "evaluate kitchen run/light --targets joint --bootstrap 20",
    f"fuse kitchen {runs} -o fused.safetensors --weights held-out",
    f"compare kitchen {runs} --teacher targets/joint --over all --bootstrap 20",
    f"report kitchen {runs} --teacher targets/joint --over all --bootstrap 20",
    "store verify kitchen",
    "store convert kitchen packed --format hdf5",
]:
    result = CliRunner().invoke(cli, command.split())
    assert result.exit_code == 0, (command, result.output, result.exception)
    print(json.dumps([command, result.stdout]))
"""
TIMES = re.compile(rb'(?<="seconds": )[0-9.e-]+|[0-9.]+ (s|GB/s)\b')
UNCOMPARED = ["*.log", "log.txt", "events.out.tfevents.*", "lock.mdb"]
"""Files that say what a process did when, and LMDB's own."""


def content(path: Path) -> bytes | tuple[Any, dict[str, bytes]]:
    """What a file says, without the time that it took; safetensors' metadata has no order."""
    if path.suffix != ".safetensors":
        return TIMES.sub(b"", path.read_bytes())
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        return file.metadata(), arrays


@pytest.mark.slow
def test_hash_seed_and_order_of_listing_decide_nothing(tmp_path: Path) -> None:
    """Everything that commands print and keep, twice."""
    running = []
    for seed, listed in (("1", "forwards"), ("2", "backwards")):
        folder = tmp_path / listed
        folder.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", PIPELINE, listed],
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running.append((folder, process))
    found = []
    for folder, process in running:
        stdout, stderr = process.communicate()
        assert process.returncode == 0, stderr.decode()
        printed = TIMES.sub(b"", stdout).replace(bytes(folder), b"")
        said = dict(json.loads(line) for line in printed.splitlines())
        kept = {
            str(path.relative_to(folder)): content(path)
            for path in folder.rglob("*")
            if path.is_file() and not any(map(path.match, UNCOMPARED))
        }
        found.append({**said, **kept})
    one, other = found
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
